import { parseArgs } from 'node:util'
import { table, whole } from './markdown.ts'
import { runBench } from './run-bench.ts'
import { POLL_SECONDS, START_SECONDS, TARGET_AGE_SECONDS, simulateBurst } from './simulate/burst.ts'
import { GROUP, STAGES, perCore, readCosts } from './simulate/costs.ts'
import type { Costs, Stage } from './simulate/costs.ts'
import { simulate } from './simulate/pipeline.ts'
import type { Layout } from './simulate/pipeline.ts'
import { createRandom } from './simulate/timeline.ts'

// Estimates what several machines could handle from what was measured on one, and prints the tables of docs/scaling.md. The
// same costs give the same tables.

const LAYOUTS: Layout[] = [
  { ingests: 1, workers: 1, shards: 1, postgresCores: 1 },
  { ingests: 2, workers: 1, shards: 1, postgresCores: 2 },
  { ingests: 4, workers: 2, shards: 1, postgresCores: 4 },
  { ingests: 8, workers: 4, shards: 3, postgresCores: 8 },
  { ingests: 16, workers: 8, shards: 6, postgresCores: 16 },
]
const LOADS = [0.5, 0.8, 0.95]
const SECONDS = 5
const SEED = 6

await runBench(async () => {
  const { values } = parseArgs({ options: { costs: { type: 'string' } } })
  const costs = await readCosts(values.costs)
  console.log(`Costs from ${costs.from}.\n\n${capacityTable(costs)}\n\n${layoutTable(costs)}\n\n${burstTable(costs)}`)
})

function capacityTable({ stages }: Costs): string {
  const sizes = [1, GROUP, 100]
  return table(
    ['one core of', ...sizes.map((size) => `groups of ${size}, events/s`)],
    STAGES.map((stage) => [stage, ...sizes.map((size) => whole(perCore(stages[stage], size)))]),
  )
}

function layoutTable(costs: Costs): string {
  const loads = LOADS.map((load) => `${load * 100} %: answer p50 / p99, stored p99, ms`)
  return table(
    ['ingest', 'worker', 'Redis', 'Postgres cores', 'bound, events/s', 'by', ...loads],
    LAYOUTS.map((layout) => layoutRow(layout, costs)),
  )
}

function layoutRow(layout: Layout, costs: Costs): (string | number)[] {
  const { ingests, workers, shards, postgresCores } = layout
  const [by, bound] = boundOf(layout, costs)
  const latencies = LOADS.map((load) => {
    const random = createRandom(SEED)
    const { ack, stored } = simulate(layout, costs, { rate: bound * load, seconds: SECONDS, random })
    return `${ack.p50.toFixed(1)} / ${ack.p99.toFixed(1)}, ${stored.p99.toFixed(1)}`
  })
  return [ingests, workers, shards, postgresCores, whole(bound), by, ...latencies]
}

/** The stage that is the first to be fully busy, with groups of the measured size, and how much it can handle. */
function boundOf({ ingests, workers, shards, postgresCores }: Layout, { stages }: Costs): [Stage, number] {
  const cores: Record<Stage, number> = { ingest: ingests, worker: workers, redis: shards, postgres: postgresCores }
  return STAGES.map((stage): [Stage, number] => [stage, cores[stage] * perCore(stages[stage], GROUP)]).toSorted(
    ([, a], [, b]) => a - b,
  )[0]!
}

function burstTable({ stages }: Costs): string {
  const perWorker = perCore(stages.worker, GROUP)
  const postgres = 8 * perCore(stages.postgres, GROUP)
  const shape = { usual: 2000, burst: 90_000, burstSeconds: 120, perWorker, postgres }
  const rows = [
    ['1', { least: 1, most: 1 }],
    ['4', { least: 4, most: 4 }],
    ['1 to 8, by age', { least: 1, most: 8 }],
    ['2 to 8, by age', { least: 2, most: 8 }],
  ] as const
  return [
    `${whole(shape.burst)} events/s for ${shape.burstSeconds} s, ${whole(shape.usual)} before and after; Postgres has 8 cores; the age is looked at each ${POLL_SECONDS} s,`,
    `${TARGET_AGE_SECONDS} s is too old, and a new worker takes ${START_SECONDS} s to start.`,
    '',
    table(
      ['workers', 'most of them', 'oldest callback, s', 'most that wait', 'drained after the burst, s'],
      rows.map(([name, workers]) => {
        const { mostWorkers, greatestAge, greatestBacklog, drainedAfter } = simulateBurst({ ...shape, workers })
        return [name, mostWorkers, greatestAge.toFixed(0), whole(greatestBacklog), drainedAfter.toFixed(0)]
      }),
    ),
  ].join('\n')
}
