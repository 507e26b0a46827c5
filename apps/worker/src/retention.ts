import { advisoryLocks } from '@ringback/core/advisory-locks'
import type { Logger } from '@ringback/core/log'
import { connect, LONG_WORK_MS } from '@ringback/core/store/connect'
import { clockAheadMs } from '@ringback/core/store/unsafe-settings'
import { z } from 'zod'
import { createClockCheck } from './clock-check.ts'
import { createDropPartitions } from './drop-partitions.ts'
import { createPruneNames, prune } from './prune.ts'

// What is kept, and for how long: expired weeks are dropped as whole partitions, the rest is deleted in batches.

const DAYS_TEXT = 'must be a whole number of days'

const days = (least: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/, DAYS_TEXT)
    .transform(Number)
    .refine((value) => value >= least, `must be at least ${least} days`)

/** Variables of the environment; docs/configuration.md describes them. */
export const retentionVariables = {
  RETENTION_DAYS: days(7).default(90),
  KEEP_DEAD_LETTERS_DAYS: days(0).default(365),
  QUARANTINE_DAYS: days(1).optional(),
  NAME_RETENTION_DAYS: days(7).optional(),
}

/** How long things are kept, in days. */
export interface Retention {
  /** Events, duplicates, deliveries and attempts, by the event's receipt; resolved alerts. */
  days: number
  /** Dead letters with their events and attempts, by the event's receipt; 0 keeps none beyond `days`. */
  deadLetterDays: number
  /** Refusals; never longer than `days`. */
  quarantineDays: number
  /** Names, by which an event is stored once; undefined keeps them for ever. */
  nameDays: number | undefined
}

/** The retention where no variable is set. */
export const DEFAULT_RETENTION = retentionOf(z.object(retentionVariables).parse({}))

/** The retention that the variables ask for. Throws if names would be forgotten before their events. */
export function retentionOf(variables: {
  RETENTION_DAYS: number
  KEEP_DEAD_LETTERS_DAYS: number
  QUARANTINE_DAYS?: number | undefined
  NAME_RETENTION_DAYS?: number | undefined
}): Retention {
  const { RETENTION_DAYS: kept, NAME_RETENTION_DAYS: nameDays } = variables
  if (nameDays !== undefined && nameDays < kept) {
    throw new Error(
      `NAME_RETENTION_DAYS is ${nameDays} and RETENTION_DAYS ${kept}: names must be kept at least as long as events, ` +
        'or a callback that comes again would be stored and handled a second time',
    )
  }
  return {
    days: kept,
    deadLetterDays: variables.KEEP_DEAD_LETTERS_DAYS,
    quarantineDays: Math.min(variables.QUARANTINE_DAYS ?? kept, kept),
    nameDays,
  }
}

/**
 * How long to wait for transactions that still use a partition, such as a backup. After that it is left to the next run.
 * Inserts do not wait meanwhile.
 */
const LOCK_TIMEOUT = '2s'

/**
 * Makes the function that deletes what has expired: in one worker at a time, however many call it, and not while a clock may
 * be ahead. What it cannot finish, the next call does. `now` is this process's clock.
 */
export function createRetention({
  databaseUrl,
  retention,
  log,
  now = Date.now,
}: {
  databaseUrl: string
  retention: Retention
  log: Logger
  now?: () => number
}): () => Promise<void> {
  const checkClocks = createClockCheck()
  let isPaused = false
  const dropPartitions = createDropPartitions(retention, log)
  const pruneNames = createPruneNames(retention)

  return async () => {
    // A connection of its own, only while it is needed: the lock and the time-out belong to the session, because partitions
    // cannot be detached concurrently within a transaction.
    const sql = connect(databaseUrl, {
      max: 1,
      applicationName: 'ringback retention',
      longestStatementMs: LONG_WORK_MS,
      keepsSession: true,
    })
    try {
      const databaseAhead = await clockAheadMs(sql, now)
      const problem = checkClocks({ databaseAhead, wall: now(), monotonic: performance.now() })
      if (problem !== undefined && !isPaused)
        log.warn({ problem, mend: 'set the clocks right, and keep them in step by NTP' }, 'retention.paused')
      isPaused = problem !== undefined
      if (isPaused) return
      const [row] = await sql<{ isFirst: boolean }[]>`
        select pg_try_advisory_lock(${advisoryLocks.retention}) as "isFirst", set_config('lock_timeout', ${LOCK_TIMEOUT}, false)`
      if (!row!.isFirst) return
      try {
        await dropPartitions(sql)
      } finally {
        // A week that cannot be dropped holds up no other table.
        await prune(sql, retention)
        await pruneNames(sql)
      }
    } finally {
      await sql.end({ timeout: 1 })
    }
  }
}
