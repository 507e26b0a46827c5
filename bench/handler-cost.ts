import { join } from 'node:path'
import { writeBodies } from './callbacks.ts'
import { ringback } from './designs.ts'
import type { Design } from './designs.ts'
import { bodiesNeeded, measureLoad } from './measure-load.ts'
import type { CpuTimes, LoadRun } from './measure-load.ts'
import { parseOptions } from './options.ts'
import { assertRequirements } from './requirements.ts'
import { runBench } from './run-bench.ts'
import { startServers } from './servers.ts'
import { median } from './statistics.ts'

// What deliveries cost: Ringback with a handler that does nothing, for every event, against Ringback without a handler.
// `node bench/handler-cost.ts`, with the options of main.ts.

/** With a handler an event is to cost at most so many times as much CPU, all processes together. */
const TARGET = 2

function withConfig(name: string): Design {
  const RINGBACK_CONFIG = join(import.meta.dirname, `handlers/${name}.config.ts`)
  return { ...ringback, name, environment: { RINGBACK_CONFIG } }
}

const without = withConfig('none')
const withHandler: Design = { ...withConfig('noop'), hasDeliveries: true }

const options = parseOptions(process.argv.slice(2))
const total = ({ ingest, worker, redis, postgres }: CpuTimes) => ingest + worker + redis + postgres

await runBench(async (resources) => {
  assertRequirements()
  const servers = await startServers(resources)
  const bodies = join(servers.dir, 'bodies')
  await writeBodies(bodies, bodiesNeeded(options))

  const runs = new Map<Design, LoadRun[]>([
    [without, []],
    [withHandler, []],
  ])
  for (let round = 1; round <= options.rounds; round++) {
    for (const [design, own] of runs) own.push(await measureLoad(resources, servers, design, { ...options, bodies }))
    console.error(`round ${round} of ${options.rounds}`)
  }

  const usOf = (design: Design, of: (times: CpuTimes) => number) =>
    median(runs.get(design)!.map(({ cpuUs }) => of(cpuUs)))
  for (const [design, own] of runs) {
    const parts = (['ingest', 'worker', 'redis', 'postgres'] as const).map((part) =>
      usOf(design, (times) => times[part]).toFixed(0),
    )
    const perSecond = median(own.map(({ eventsPerSecond }) => eventsPerSecond)).toFixed(0)
    console.log(
      `${design.name}: ${parts.join(' + ')} = ${usOf(design, total).toFixed(0)} us/event, ${perSecond} events/s`,
    )
  }
  const ratio = median(
    runs.get(withHandler)!.map(({ cpuUs }, round) => total(cpuUs) / total(runs.get(without)![round]!.cpuUs)),
  )
  console.log(`ratio ${ratio.toFixed(2)}, target at most ${TARGET}: ${ratio <= TARGET ? 'met' : 'missed'}`)
})
