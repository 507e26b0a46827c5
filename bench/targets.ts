import {
  bareHono,
  naive,
  ringback,
  ringbackEverysec,
  ringbackNoHandler,
  ringbackNoopHandler,
  ringbackWithoutRedis,
  withoutQueue,
} from './designs.ts'
import type { Design } from './designs.ts'
import type { Measurements, Runs } from './measure-all.ts'
import type { Floors } from './measure-floors.ts'
import { totalUs } from './measure-load.ts'
import type { LoadRun } from './measure-load.ts'
import { median, medianAndSpread } from './statistics.ts'

/** A target for Ringback, and what was measured. */
export interface Target {
  target: string
  measured: string
  met: boolean
}

/** The targets whose sections were measured. */
export function targets(results: Measurements): Target[] {
  const { loads } = results
  return [
    ...atLeast('events/s against the naive design', 4, ratios(loads.load, ringback, naive)),
    ...atLeast('events/s against one INSERT a request', 1.9, ratios(loads.load, ringback, withoutQueue)),
    ...atLeast('events/s against naive, ten callbacks a request', 4.5, ratios(loads.ten, ringback, naive)),
    ...atMost('CPU of an event, as a multiple of the sum of the floors', 1.4, againstFloors(results)),
    ...atLeast(
      'answers/s without workers, against bare Hono, which stores nothing',
      1,
      ratios(loads.acks, ringback, bareHono, ({ answersPerSecond }) => answersPerSecond),
    ),
    ...['300', '1500'].flatMap((rate) => [
      ...atMost(
        `p50 at ${rate} requests/s minus the naive design's, ms`,
        0.1,
        latencies(results, rate, (own, base) => own.p50Ms - base.p50Ms),
      ),
      ...atMost(
        `p99 at ${rate} requests/s against the naive design's`,
        1.1,
        latencies(results, rate, (own, base) => own.p99Ms / base.p99Ms),
      ),
    ]),
    ...idleTarget(results),
    ...atLeast('events/s with `always` against `everysec`', 0.88, ratios(loads.load, ringback, ringbackEverysec)),
    ...atLeast('events/s against naive, each fsync 2 ms longer', 3, ratios(loads['slow-disk'], ringback, naive)),
    ...atLeast(
      'without Redis: events/s against one INSERT a request',
      1.2,
      ratios(loads.load, ringbackWithoutRedis, withoutQueue),
    ),
    ...atMost(
      'CPU of an event with a handler that does nothing, against none',
      2,
      ratios(loads.handler, ringbackNoopHandler, ringbackNoHandler, ({ cpuUs }) => totalUs(cpuUs)),
    ),
    ...[naive, withoutQueue].flatMap((rival) =>
      atLeast(
        `two processes of each kind: the ratio to "${rival.name}" against that with one`,
        0.85,
        ratios(loads['two-processes'], ringback, rival).map(
          (ratio) => ratio / median(ratios(loads.load, ringback, rival)),
        ),
      ),
    ),
  ]
}

function atLeast(target: string, limit: number, values: readonly number[]): Target[] {
  return judge(`${target}: at least ${limit}`, values, (value) => value >= limit)
}

function atMost(target: string, limit: number, values: readonly number[]): Target[] {
  return judge(`${target}: at most ${limit}`, values, (value) => value <= limit)
}

function judge(target: string, values: readonly number[], isMet: (value: number) => boolean): Target[] {
  const known = values.filter(Number.isFinite)
  if (known.length === 0) return []
  return [{ target, measured: medianAndSpread(known, (value) => value.toFixed(2)), met: isMet(median(known)) }]
}

/** Ratios round by round, because the machine may be slower in one round than in another. Empty if not measured. */
function ratios(
  runs: Runs<LoadRun> | undefined,
  design: Design,
  base: Design,
  of: (run: LoadRun) => number = ({ eventsPerSecond }) => eventsPerSecond,
): number[] {
  const baseRuns = runs?.[base.name]
  if (baseRuns === undefined) return []
  return (runs![design.name] ?? []).map((run, round) => of(run) / of(baseRuns[round]!))
}

/** The sum of all stages of one round. */
export function floorSum({ http, enqueue, dequeue, store }: Floors): number {
  return http + enqueue + dequeue + store
}

function againstFloors({ loads, floors }: Measurements): number[] {
  if (floors.length === 0) return []
  const sum = median(floors.map(floorSum))
  return (loads.load?.[ringback.name] ?? []).map(({ cpuUs }) => totalUs(cpuUs) / sum)
}

function latencies(
  { latencies: all }: Measurements,
  rate: string,
  compare: (own: { p50Ms: number; p99Ms: number }, base: { p50Ms: number; p99Ms: number }) => number,
): number[] {
  const base = all[naive.name] ?? []
  return (all[ringback.name] ?? []).map((own, round) => compare(own[rate]!, base[round]![rate]!))
}

function idleTarget({ idleLatencies }: Measurements): Target[] {
  const [own, base] = [idleLatencies[ringback.name], idleLatencies[naive.name]]
  if (own === undefined || base === undefined) return []
  return atMost("idle, one request at a time: p50 minus the naive design's, ms", 0.1, [own.p50Ms - base.p50Ms])
}
