import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { Sql } from 'postgres'
import { cpuTimeOfGroupUs, cpuTimeUs } from '../test/support/cpu-time.ts'
import { writeBodies } from './callbacks.ts'
import { startDesign } from './designs.ts'
import type { Design, RunningDesign } from './designs.ts'
import { sendLoad } from './load.ts'
import type { LoadResult } from './load.ts'
import type { Servers } from './servers.ts'

/** The result of one run of one design. */
export interface LoadRun {
  /** Measured until the last row is in Postgres. For a design that stores nothing, these are the answered events. */
  eventsPerSecond: number
  /** Answered requests a second. */
  answersPerSecond: number
  /** Of several ingest processes, those of the slowest. */
  p50Ms: number
  p99Ms: number
  p999Ms: number
  /** Microseconds for each event. */
  cpuUs: CpuTimes
}

/** CPU times; each is the sum over the processes of its kind. */
export interface CpuTimes {
  ingest: number
  worker: number
  redis: number
  postgres: number
}

/** The CPU time of all processes together. */
export function totalUs({ ingest, worker, redis, postgres }: CpuTimes): number {
  return ingest + worker + redis + postgres
}

export interface LoadShape {
  connections: number
  /** How many callbacks each request has. */
  callbacks: number
  /** How many processes there are of each kind, ingest and worker. */
  processes: number
  /** Whether workers start only when the load is over, to show that nothing was lost. */
  withoutWorkers: boolean
}

/** A file of request bodies, one a line. */
export interface Bodies {
  file: string
  count: number
}

export const WARM_UP_SECONDS = 3
/** More than Node processes can answer on any two cores known to us, depending on the callbacks in a request. */
const mostAnswersPerSecond = (callbacks: number) => (callbacks === 1 ? 100_000 : 40_000)

/** Makes bodies, all different, of which no run of `seconds` can use up all. */
export async function makeBodies(dir: string, seconds: number, callbacks: number): Promise<Bodies> {
  const file = join(dir, `bodies-${callbacks}`)
  const count = (WARM_UP_SECONDS + seconds) * mostAnswersPerSecond(callbacks)
  await writeBodies(file, count, callbacks)
  return { file, count }
}

/**
 * Measures one run in fresh processes, so that none inherits another's memory or compiled code. After a warm-up, and when
 * its rows are stored, comes the load that is measured. Rejects unless every callback sent is one row in Postgres at the
 * end.
 */
export async function measureLoad(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
  { bodies, seconds, shape }: { bodies: Bodies; seconds: number; shape: LoadShape },
): Promise<LoadRun> {
  await servers.emptyRedis()
  const running = await startDesign(resources, servers, design, shape)
  const sql = postgres(running.databaseUrl, { max: 1 })
  const callbacks = (...results: readonly LoadResult[]): Sent => ({
    answered: results.reduce((sum, { answered }) => sum + answered, 0) * shape.callbacks,
    sent: results.reduce((sum, { sent }) => sum + sent, 0) * shape.callbacks,
  })
  /** Resolves to since when all is done, by performance.now(). */
  const untilDone = async (requests: Sent): Promise<number> => {
    if (design.storesNothing) return performance.now()
    const { rows, sinceMs } = await untilStored(sql, requests)
    if (!design.hasDeliveries) return sinceMs
    await untilDelivered(sql, rows)
    return performance.now()
  }
  try {
    const load = { bodies, connections: shape.connections, logFile: join(servers.dir, 'wrk.log') }
    const warmUp = await loadAll(resources, running, { ...load, skip: 0, seconds: WARM_UP_SECONDS })
    if (!shape.withoutWorkers) await untilDone(callbacks(warmUp))

    const before = cpuTimes(servers, running)
    const result = await loadAll(resources, running, { ...load, skip: warmUp.most, seconds })
    const { sent, answered, seconds: loadSeconds, p50Ms, p99Ms, p999Ms } = result
    const loadEndedAt = performance.now()
    const storesLater = design.storesNothing || shape.withoutWorkers
    const doneAt = storesLater ? loadEndedAt : await untilDone(callbacks(warmUp, result))
    const after = cpuTimes(servers, running)
    if (shape.withoutWorkers) {
      if (design.worker !== undefined) await running.addWorker()
      await untilDone(callbacks(warmUp, result))
    }

    const drainSeconds = Math.max(0, doneAt - loadEndedAt) / 1000
    const events = sent * shape.callbacks
    return {
      eventsPerSecond: events / (loadSeconds + drainSeconds),
      answersPerSecond: answered / loadSeconds,
      p50Ms,
      p99Ms,
      p999Ms,
      cpuUs: shareOf(before, after, events),
    }
  } finally {
    await sql.end({ timeout: 1 })
    await running.stop()
  }
}

/** Runs a wrk for each ingest process, with its share of connections and bodies. Merges their results. */
async function loadAll(
  resources: AsyncDisposableStack,
  { urls }: RunningDesign,
  load: { bodies: Bodies; connections: number; logFile: string; skip: number; seconds: number },
): Promise<LoadResult & { most: number }> {
  const share = Math.floor(load.bodies.count / urls.length)
  const connections = Math.max(1, Math.round(load.connections / urls.length))
  const results = await Promise.all(
    urls.map((url, index) =>
      sendLoad(resources, {
        url,
        bodies: load.bodies.file,
        skip: index * share + load.skip,
        seconds: load.seconds,
        connections,
        logFile: `${load.logFile}-${index}`,
      }),
    ),
  )
  const sum = (of: (result: LoadResult) => number) => results.reduce((total, result) => total + of(result), 0)
  const greatest = (of: (result: LoadResult) => number) => Math.max(...results.map(of))
  const most = greatest(({ sent }) => sent)
  if (load.skip + most > share) throw new Error('One wrk has come into the bodies of the next')
  return {
    sent: sum(({ sent }) => sent),
    answered: sum(({ answered }) => answered),
    seconds: greatest(({ seconds }) => seconds),
    p50Ms: greatest(({ p50Ms }) => p50Ms),
    p99Ms: greatest(({ p99Ms }) => p99Ms),
    p999Ms: greatest(({ p999Ms }) => p999Ms),
    most,
  }
}

/** CPU time of all processes so far, in microseconds. */
export function cpuTimes({ redis, postgresPid }: Servers, { ingests, workers }: RunningDesign): CpuTimes {
  return {
    ingest: cpuTimeOfAllUs(ingests),
    worker: cpuTimeOfAllUs(workers),
    redis: cpuTimeUs(redis.pid),
    postgres: cpuTimeOfGroupUs(postgresPid),
  }
}

/** The CPU time between two looks, divided by `by`. */
export function shareOf(before: CpuTimes, after: CpuTimes, by: number): CpuTimes {
  const part = (name: keyof CpuTimes) => (after[name] - before[name]) / by
  return { ingest: part('ingest'), worker: part('worker'), redis: part('redis'), postgres: part('postgres') }
}

function cpuTimeOfAllUs(programs: readonly { pid: number }[]): number {
  return programs.reduce((total, { pid }) => total + cpuTimeUs(pid), 0)
}

/** How long after the last new row a callback that is not stored counts as lost. */
const PATIENCE_MS = 20_000
/** When no row has come for this long, the requests that wrk cut off have not arrived. */
const SETTLE_MS = 500
const POLL_INTERVAL_MS = 25

/** Callbacks whose 200 was seen, and all that were sent. The few in between may have been cut off at wrk's end. */
export interface Sent {
  answered: number
  sent: number
}

/** Waits until all that was answered is stored and no more rows come. Resolves to how many there are, and since when. */
export async function untilStored(sql: Sql, { answered, sent }: Sent): Promise<{ rows: number; sinceMs: number }> {
  let [seen, sinceMs] = [0, performance.now()]
  for (;;) {
    const [row] = await sql<{ rows: number }[]>`select count(*)::int as rows from events`
    const rows = row!.rows
    if (rows > seen) [seen, sinceMs] = [rows, performance.now()]
    const quietMs = performance.now() - sinceMs
    if (rows > sent) throw new Error(`WRONG: ${sent} callbacks were sent, and there are ${rows} rows in Postgres`)
    if (rows === sent || (rows >= answered && quietMs > SETTLE_MS)) return { rows, sinceMs }
    if (quietMs > PATIENCE_MS)
      throw new Error(`LOST: ${answered} callbacks were answered, and only ${rows} are in Postgres`)
    await sleep(POLL_INTERVAL_MS)
  }
}

const DELIVERY_PATIENCE_MS = 120_000

/** Waits until nothing is pending. It does not count what is done, because that would load the machine. */
async function untilDelivered(sql: Sql, sent: number): Promise<void> {
  const deadline = performance.now() + DELIVERY_PATIENCE_MS
  for (;;) {
    const [row] = await sql<{ pending: boolean }[]>`
      select exists (select from deliveries where status = 'pending') as pending`
    if (!row!.pending) break
    if (performance.now() > deadline) throw new Error('Deliveries are still pending two minutes after the last event')
    await sleep(POLL_INTERVAL_MS)
  }
  const [row] = await sql<{ succeeded: number; attempts: number }[]>`
    select
      (select count(*)::int from deliveries where status = 'succeeded') as succeeded,
      (select count(*)::int from attempts) as attempts`
  if (row!.succeeded !== sent || row!.attempts !== sent)
    throw new Error(`WRONG: ${sent} events came to ${row!.succeeded} deliveries in ${row!.attempts} attempts`)
}
