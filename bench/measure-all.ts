import {
  naive,
  pgBoss,
  graphileWorker,
  ringback,
  ringbackEverysec,
  ringbackWithoutRedis,
  withoutQueue,
  bareHono,
} from './designs.ts'
import type { Design } from './designs.ts'
import { fsyncDelayProblem } from './fsync-delay.ts'
import { measureFloors } from './measure-floors.ts'
import type { Floors } from './measure-floors.ts'
import { measureIdle } from './measure-idle.ts'
import type { IdleLatency } from './measure-idle.ts'
import { measureIdleCost } from './measure-idle-cost.ts'
import type { IdleCost } from './measure-idle-cost.ts'
import { measureLatency } from './measure-latency.ts'
import type { Latency, Rates } from './measure-latency.ts'
import { makeBodies, measureLoad } from './measure-load.ts'
import type { Bodies, LoadRun } from './measure-load.ts'
import type { Options } from './options.ts'
import { scenarios } from './scenarios.ts'
import type { Scenario } from './scenarios.ts'
import { startServers } from './servers.ts'
import type { Servers } from './servers.ts'
import { median } from './statistics.ts'

/** The values of each design, by its name, in the order of the rounds. */
export type Runs<Value> = Record<string, Value[]>

/** What was measured. Sections that were not asked for are empty. It is plain data, as `--json` writes it. */
export interface Measurements {
  /** By the scenario's name. */
  loads: Record<string, Runs<LoadRun>>
  floors: Floors[]
  /** By the name of the rate. */
  latencies: Runs<Record<string, Latency>>
  idleLatencies: Record<string, IdleLatency>
  idleCosts: Record<string, IdleCost>
  /** Why something was left out. */
  notes: string[]
}

const FSYNC_DELAY_MS = 2
const LATENCY_DESIGNS = {
  quick: [ringback, naive],
  default: [ringback, ringbackWithoutRedis, naive, withoutQueue],
  full: [ringback, ringbackEverysec, ringbackWithoutRedis, naive, withoutQueue, pgBoss, bareHono],
}
const IDLE_DESIGNS = [ringback, naive, withoutQueue, ringbackWithoutRedis]
const IDLE_COST_DESIGNS = [ringback, ringbackWithoutRedis, naive, withoutQueue, pgBoss, graphileWorker]

/** Measures the sections that `options` ask for, round by round, and shows progress on standard error. */
export async function measureAll(
  resources: AsyncDisposableStack,
  servers: Servers,
  options: Options,
): Promise<Measurements> {
  const { rounds, sideRounds, seconds, sections, profile, connections } = options
  const results: Measurements = {
    loads: {},
    floors: [],
    latencies: {},
    idleLatencies: {},
    idleCosts: {},
    notes: [],
  }
  const bodiesBySize = new Map<number, Bodies>()
  const measuredAlone = new Map<Design, LoadRun[]>()
  const bodiesOf = async (callbacks: number) => {
    const bodies = bodiesBySize.get(callbacks) ?? (await makeBodies(servers.dir, seconds, callbacks))
    bodiesBySize.set(callbacks, bodies)
    return bodies
  }

  const wanted = scenarios(options).filter(({ section }) => sections.includes(section))
  for (const scenario of wanted.filter(({ slowDisk }) => slowDisk !== true)) await measureScenario(servers, scenario)

  if (sections.includes('floors')) {
    for (let round = 1; round <= sideRounds; round++) {
      const floors = await measureFloors(resources, servers, { bodies: await bodiesOf(1), seconds, connections })
      results.floors.push(floors)
      progress('floors', round, sideRounds, inShort(floors))
    }
  }

  if (sections.includes('latency')) await measureLatencies()

  if (sections.includes('idle')) {
    progress('idle', 1, 1, 'one request at a time')
    results.idleLatencies = await measureIdle(resources, servers, IDLE_DESIGNS)
    const idleSeconds = { quick: 3, default: 5, full: 20 }[profile]
    for (const design of IDLE_COST_DESIGNS) {
      progress('idle', 1, 1, `${design.name}: no request for ${idleSeconds} s`)
      results.idleCosts[design.name] = await measureIdleCost(resources, servers, design, idleSeconds)
    }
  }

  const slow = wanted.filter(({ slowDisk }) => slowDisk === true)
  if (slow.length > 0) await measureSlowDisk(slow)
  return results

  async function measureScenario(on: Servers, { section, name, designs, shape }: Scenario): Promise<void> {
    const runs: Runs<LoadRun> = Object.fromEntries(designs.map((design) => [design.name, []]))
    const times = section === 'load' ? rounds : sideRounds
    const bodies = await bodiesOf(shape.callbacks)
    for (let round = 1; round <= times; round++) {
      for (const design of inTurn(designs, round)) {
        const run = await measureLoad(resources, on, design, { bodies, seconds, shape })
        runs[design.name]!.push(run)
        progress(name, round, times, `${design.name}: ${Math.round(run.eventsPerSecond)} events/s`)
      }
    }
    results.loads[name] = runs
  }

  /** Measures on servers of its own. The other servers are idle meanwhile. */
  async function measureSlowDisk(slow: readonly Scenario[]): Promise<void> {
    const problem = fsyncDelayProblem()
    if (problem !== undefined) {
      results.notes.push(`The slow disk was left out: ${problem}.`)
      console.error(results.notes.at(-1))
      return
    }
    progress('slow-disk', 1, 1, `Redis and Postgres whose every fsync takes ${FSYNC_DELAY_MS} ms longer`)
    await using own = new AsyncDisposableStack()
    const slowServers = await startServers(own, { fsyncDelayMs: FSYNC_DELAY_MS })
    for (const scenario of slow) await measureScenario(slowServers, scenario)
  }

  async function measureLatencies(): Promise<void> {
    const designs = LATENCY_DESIGNS[profile]
    const bodies = await bodiesOf(1)
    const runSeconds = { quick: 2, default: 3, full: 10 }[profile]
    for (const design of designs) results.latencies[design.name] = []
    for (let round = 1; round <= sideRounds; round++) {
      for (const design of inTurn(designs, round)) {
        const rates = ratesOf(await capacityOf(design))
        const latency = await measureLatency(resources, servers, design, { bodies, rates, seconds: runSeconds })
        results.latencies[design.name]!.push(latency)
        progress('latency', round, sideRounds, `${design.name}: ${inShort(latency)}`)
      }
    }
  }

  /** The most events a second that a design stores, from its runs under load; measured now if there are none. */
  async function capacityOf(design: Design): Promise<number> {
    const runs = results.loads.load?.[design.name] ?? measuredAlone.get(design) ?? []
    if (runs.length === 0) {
      const shape = { connections, callbacks: 1, processes: 1, withoutWorkers: false }
      runs.push(await measureLoad(resources, servers, design, { bodies: await bodiesOf(1), seconds, shape }))
      measuredAlone.set(design, runs)
    }
    return median(runs.map(({ eventsPerSecond }) => eventsPerSecond))
  }
}

/** The name of the last rate, which is a share of what the design itself can handle. */
export const HALF_LOAD = 'half'
function ratesOf(capacity: number): Rates {
  return { '300': 300, '1500': 1500, [HALF_LOAD]: Math.round(capacity / 2) }
}

/** The designs in turn: each round begins with another, so that no design always comes after the same one. */
function inTurn(designs: readonly Design[], round: number): Design[] {
  const first = (round - 1) % designs.length
  return [...designs.slice(first), ...designs.slice(0, first)]
}

function progress(section: string, round: number, rounds: number, text: string): void {
  const seconds = Math.round(performance.now() / 1000)
  console.error(`${String(seconds).padStart(4)} s  ${section} ${round}/${rounds}  ${text}`)
}

/** The values as JSON whose numbers have two decimals. */
function inShort(values: object): string {
  return JSON.stringify(values, (_, value: unknown) =>
    typeof value === 'number' ? Math.round(value * 100) / 100 : value,
  )
}
