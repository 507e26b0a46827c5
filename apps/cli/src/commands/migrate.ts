import { migrateQueue, queueServer } from '@ringback/core/queue'
import { LONG_WORK_MS } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import type { Command } from 'commander'
import { readEnvironment, withSql } from '../environment.ts'
import { print } from '../output.ts'

/** `ringback migrate` */
export function addMigrateCommand(program: Command): void {
  program
    .command('migrate')
    .description('upgrade the database to this version, and the queue if it is in Postgres')
    .action(async (_options: unknown, command: Command) => {
      const queue = queueServer(readEnvironment())
      const applied = await withSql(async (sql) => {
        const [setting] = await sql<{ encoding: string }[]>`select current_setting('server_encoding') as encoding`
        if (setting?.encoding !== 'UTF8') {
          console.error(
            `The database's encoding is ${setting?.encoding}, so texts are not compared as characters: create it with encoding UTF8`,
          )
        }
        const migrations = await migrate(sql)
        await migrateQueue(queue)
        return migrations
      }, LONG_WORK_MS)
      print(
        command,
        { applied },
        applied.length > 0 ? `Applied ${applied.join(', ')}` : 'Nothing to do: the database is up to date',
      )
    })
}
