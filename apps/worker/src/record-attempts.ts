import { setTimeout as sleep } from 'node:timers/promises'
import type { Handler } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import type { Sql } from '@ringback/core/store/connect'
import { deferDeliveries, recordAttempts } from './deliveries-table.ts'
import type { QueuedDelivery } from './deliveries-table.ts'
import { settle } from './destination.ts'
import { lockDestination, noteOutcomes, saveDestination } from './destinations-table.ts'
import { verdictOn } from './postgres-errors.ts'
import type { Finished } from './run-attempt.ts'

export interface RecordDependencies {
  sql: Sql
  log: Logger
  /** Fires when the process is to end. */
  signal: AbortSignal
}

/** How long an attempt that is over may wait to be recorded, however long the others of its job take. */
const RECORD_INTERVAL_MS = 1000

/**
 * Records attempts when they are over: all together, or, while some take long, every second those that are over. An attempt
 * that is not recorded when a worker is killed is made again. Resolves to the attempts that are still running when the
 * process is to end.
 */
export async function recordAsTheyEnd(
  deps: RecordDependencies,
  handler: Handler,
  attempts: Promise<Finished>[],
): Promise<Promise<Finished>[]> {
  let open = attempts
  const over = new Map<Promise<Finished>, Finished>()
  const all = Promise.all(attempts.map(async (attempted) => over.set(attempted, await attempted)))
  while (open.length > 0) {
    await Promise.race([all, sleep(RECORD_INTERVAL_MS, undefined, { signal: deps.signal }).catch(() => undefined)])
    if (deps.signal.aborted) break
    const finished = [...over.values()]
    open = open.filter((attempted) => !over.has(attempted))
    over.clear()
    await untilRecorded(deps, () => end(deps.sql, handler, finished))
  }
  return open
}

/**
 * When the process is to end, records each attempt as soon as it is over, and hands back at once what has not begun.
 * Otherwise one attempt that takes longer than there is time would make all the others run again, or wait.
 */
export async function finishEach(
  sql: Sql,
  handler: Handler,
  { attempts, rest }: { attempts: Promise<Finished>[]; rest: QueuedDelivery[] },
): Promise<void> {
  await Promise.all([
    rest.length === 0 ? undefined : deferDeliveries(sql, rest, 0),
    ...attempts.map(async (attempted) => end(sql, handler, [await attempted])),
  ])
}

/** How long recording is tried: as long as a lease may be. After that another attempt has been made. */
const RECORD_FOR_MS = 600_000

/**
 * Tries to record until Postgres accepts it, so that an outage makes no handler run twice. A result that comes too late or
 * twice changes nothing. Rejects when the process is to end, or when Postgres refuses it; another attempt is made then.
 */
async function untilRecorded({ log, signal }: RecordDependencies, record: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + RECORD_FOR_MS
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 500)) {
    try {
      return await record()
    } catch (error) {
      if (verdictOn(error) === 'refused' || signal.aborted || performance.now() > deadline) throw error
      log.warn({ error: (error as Error).message, retryInMs: pauseMs }, 'attempts.not_recorded')
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined) // ends the pause, not the last try
    }
  }
}

/**
 * Records attempts that are over, and what they say of their destination. Those that were recorded before, because the answer
 * was lost, say nothing again.
 */
async function end(sql: Sql, { name, limits }: Handler, finished: Finished[]): Promise<void> {
  if (finished.length === 0) return
  if (limits === undefined) return void (await recordAttempts(sql, finished))
  await sql.begin(async (transaction) => {
    const { destination, now } = await lockDestination(transaction, name)
    const ended = await recordAttempts(transaction, finished)
    await saveDestination(transaction, name, settle(limits.breaker ?? false, destination, ended, now))
    await noteOutcomes(transaction, name, {
      hasSucceeded: ended.some(({ ok }) => ok),
      error: ended.findLast(({ ok }) => !ok)?.error,
    })
  })
}
