import { Command } from 'commander'
import { addConfigCommand } from './commands/config.ts'
import { addDeliveriesCommand } from './commands/deliveries.ts'
import { addDestinationsCommand } from './commands/destinations.ts'
import { addDoctorCommand } from './commands/doctor.ts'
import { addEventsCommand } from './commands/events.ts'
import { addExportCommand } from './commands/export.ts'
import { addMigrateCommand } from './commands/migrate.ts'
import { addProvidersCommand } from './commands/providers.ts'
import { addQuarantineCommand } from './commands/quarantine.ts'
import { addReplayCommand } from './commands/replay.ts'
import { addSendCommand } from './commands/send.ts'
import { addSpoolCommand } from './commands/spool.ts'
import packageJson from '../package.json' with { type: 'json' }

/** The command `ringback` with all of its verbs. */
export function createProgram(): Command {
  const program = new Command('ringback')
    .description('Operates Ringback: what it has stored, what it still has to do, and a sender to try it with.')
    .version(packageJson.version)
    .option('--json', 'print JSON, one value a line')
    .showHelpAfterError('(--help tells the options)')

  for (const add of [
    addMigrateCommand,
    addConfigCommand,
    addProvidersCommand,
    addSendCommand,
    addEventsCommand,
    addExportCommand,
    addDeliveriesCommand,
    addReplayCommand,
    addDestinationsCommand,
    addQuarantineCommand,
    addSpoolCommand,
    addDoctorCommand,
  ]) {
    add(program)
  }
  return program
}
