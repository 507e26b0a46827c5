import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeBodies } from './callbacks.ts'
import { describeConditions } from './conditions.ts'
import { designs } from './designs.ts'
import type { Design } from './designs.ts'
import { measureIdle } from './measure-idle.ts'
import { bodiesNeeded, measureLoad } from './measure-load.ts'
import type { LoadRun } from './measure-load.ts'
import { parseOptions } from './options.ts'
import { report } from './report.ts'
import { assertRequirements } from './requirements.ts'
import { runBench } from './run-bench.ts'
import { startServers } from './servers.ts'

// Measures Ringback against the designs that one would write otherwise, on the same servers in the same minutes.
// The page goes to standard output, progress to standard error.

await runBench(bench)

async function bench(resources: AsyncDisposableStack): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  assertRequirements()
  console.error('starting Redis and Postgres')
  const servers = await startServers(resources)
  const conditions = await describeConditions(servers)
  const bodies = join(servers.dir, 'bodies')
  await writeBodies(bodies, bodiesNeeded(options))

  console.error('idle: one request at a time')
  const idle = await measureIdle(resources, servers, designs)

  const runs = new Map<Design, LoadRun[]>(designs.map((design) => [design, []]))
  for (let round = 1; round <= options.rounds; round++) {
    for (const design of designs) {
      const run = await measureLoad(resources, servers, design, { ...options, bodies })
      runs.get(design)!.push(run)
      console.error(`round ${round} of ${options.rounds}: ${design.name}: ${Math.round(run.eventsPerSecond)} events/s`)
    }
  }

  const page = report({ conditions, options, runs, idle })
  console.log(page)
  if (options.write) await writeFile(join(import.meta.dirname, '../docs/performance.md'), page)
}
