import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { Sql } from 'postgres'
import { cpuTimeOfGroupUs, cpuTimeUs } from './cpu-time.ts'
import { startDesign } from './designs.ts'
import type { Design, RunningDesign } from './designs.ts'
import { sendLoad } from './load.ts'
import type { Options } from './options.ts'
import type { Servers } from './servers.ts'

/** What one run of one design came to. */
export interface LoadRun {
  /** From the start of the load until the last row was in Postgres. */
  eventsPerSecond: number
  answersPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Microseconds for each event. */
  cpuUs: CpuTimes
}

export interface CpuTimes {
  ingest: number
  worker: number
  redis: number
  postgres: number
}

export const WARM_UP_SECONDS = 1
/** More than one Node process can answer on any machine known to us. */
const MOST_ANSWERS_PER_SECOND = 40_000
/** How many bodies no run can use up. */
export const bodiesNeeded = ({ seconds }: Options) => (WARM_UP_SECONDS + seconds) * MOST_ANSWERS_PER_SECOND

/**
 * One run in fresh processes, so that none inherits another's memory or compiled code: a warm-up, and when its rows are
 * stored, the load that is measured. Rejects unless every request sent is one row in Postgres at the end.
 */
export async function measureLoad(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
  { bodies, seconds, connections }: { bodies: string; seconds: number; connections: number },
): Promise<LoadRun> {
  await servers.emptyRedis()
  const running = await startDesign(resources, servers, design)
  const sql = postgres(running.databaseUrl, { max: 1 })
  try {
    const load = { url: running.url, bodies, connections, logFile: join(servers.dir, 'wrk.log') }
    const warmUp = await sendLoad(resources, { ...load, skip: 0, seconds: WARM_UP_SECONDS })
    await untilStored(sql, warmUp.sent)
    if (design.hasDeliveries) await untilDelivered(sql, warmUp.sent)

    const before = cpuTimes(servers, running)
    const {
      sent,
      answered,
      seconds: loadSeconds,
      ...latency
    } = await sendLoad(resources, {
      ...load,
      skip: warmUp.sent,
      seconds,
    })
    const loadEndedAt = performance.now()
    await untilStored(sql, warmUp.sent + sent)
    if (design.hasDeliveries) await untilDelivered(sql, warmUp.sent + sent)
    const drainSeconds = (performance.now() - loadEndedAt) / 1000
    const after = cpuTimes(servers, running)

    const perEvent = (part: keyof CpuTimes) => (after[part] - before[part]) / sent
    return {
      eventsPerSecond: sent / (loadSeconds + drainSeconds),
      answersPerSecond: answered / loadSeconds,
      ...latency,
      cpuUs: {
        ingest: perEvent('ingest'),
        worker: perEvent('worker'),
        redis: perEvent('redis'),
        postgres: perEvent('postgres'),
      },
    }
  } finally {
    await sql.end({ timeout: 1 })
    await running.stop()
  }
}

function cpuTimes({ redis, postgresPid }: Servers, { ingest, worker }: RunningDesign): CpuTimes {
  return {
    ingest: cpuTimeUs(ingest.pid),
    worker: worker === undefined ? 0 : cpuTimeUs(worker.pid),
    redis: cpuTimeUs(redis.pid),
    postgres: cpuTimeOfGroupUs(postgresPid),
  }
}

/** What is not stored this long after the last new row is lost. */
const PATIENCE_MS = 10_000
const POLL_INTERVAL_MS = 25

/** `sent` counts the answered requests, and those few whose answer came after the load had ended: all must be rows. */
async function untilStored(sql: Sql, sent: number): Promise<void> {
  let seen = 0
  let deadline = performance.now() + PATIENCE_MS
  for (;;) {
    const [row] = await sql<{ rows: number }[]>`select count(*)::int as rows from events`
    const rows = row!.rows
    if (rows === sent) return
    if (rows > sent) throw new Error(`WRONG: ${sent} callbacks were sent, and there are ${rows} rows in Postgres`)
    if (rows > seen) {
      seen = rows
      deadline = performance.now() + PATIENCE_MS
    } else if (performance.now() > deadline)
      throw new Error(`LOST: ${sent} callbacks were sent, and only ${rows} of them are in Postgres`)
    await sleep(POLL_INTERVAL_MS)
  }
}

const DELIVERY_PATIENCE_MS = 120_000

/** Looks only at what is still pending, for counting what is done would take its part of the machine. */
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
