import { randomUUIDv7 } from 'node:crypto'
import { emptyHistogram, observe } from '@ringback/core/histogram'
import type { Sql } from '@ringback/core/store/connect'
import { keptText } from './deliveries-table.ts'
import type { CountedAttempt } from './run-attempt.ts'

/** A row of `delivery_minutes`. */
interface AttemptCounts {
  minute: string
  source: string
  type: string
  handler: string
  attempts: number
  failures: number
  dead: number
  durationMs: number[]
}

/** Attempts of a handler since the last report, for its row in `destinations`. */
interface Outcomes {
  handler: string
  hasSucceeded: boolean
  /** Null if none has failed. */
  lastError: string | null
  /** Failures since the last success, or all if there was none. */
  failuresInARow: number
}

/** What is written in one transaction. */
interface Report {
  /** Under which it is written once. */
  id: string
  rows: AttemptCounts[]
  outcomes: Outcomes[]
}

export interface AttemptCounter {
  count: (attempt: CountedAttempt) => void
  /** Writes what was counted since the last time. If that fails it rejects, and keeps the counts for the next time. */
  flush: () => Promise<void>
}

/** Limit of rows in memory. Types are the providers' own words; beyond the limit, attempts are counted without them. */
const MAX_ROWS = 1000

/**
 * Counts attempts in memory, for the table `delivery_minutes`; a worker that is killed loses what it has not written. For
 * handlers without limits it also updates `destinations`; for those with limits, recording the attempt does that.
 */
export function createAttemptCounter(
  { sql, limited }: { sql: Sql; limited: ReadonlySet<string> },
  now: () => number = Date.now,
): AttemptCounter {
  let rows = new Map<string, AttemptCounts>()
  let outcomes = new Map<string, Outcomes>()
  /** Is being written, or could not be. */
  let unwritten: Report | undefined

  function rowOf({ source, type, handler }: Pick<CountedAttempt, 'source' | 'type' | 'handler'>): AttemptCounts {
    const at = now()
    const minute = new Date(at - (at % 60_000)).toISOString()
    const key = `${minute}\n${source}\n${handler}\n${type}`
    const known = rows.get(key)
    if (known !== undefined) return known
    if (rows.size >= MAX_ROWS && type !== '') return rowOf({ source, type: '', handler })
    const row = { minute, source, type, handler, attempts: 0, failures: 0, dead: 0, durationMs: emptyHistogram() }
    rows.set(key, row)
    return row
  }

  function countOutcome({ handler, error }: CountedAttempt): void {
    const own = outcomes.get(handler) ?? { handler, hasSucceeded: false, lastError: null, failuresInARow: 0 }
    outcomes.set(handler, own)
    if (error === undefined) {
      own.hasSucceeded = true
      own.failuresInARow = 0
    } else {
      own.lastError = error
      own.failuresInARow += 1
    }
  }

  async function writeReport(): Promise<void> {
    if (unwritten === undefined) return
    await write(sql, unwritten)
    unwritten = undefined
  }

  return {
    count(attempt) {
      const row = rowOf(attempt)
      row.attempts += 1
      if (!attempt.ok) row.failures += 1
      if (attempt.next.kind === 'dead') row.dead += 1
      observe(row.durationMs, attempt.durationMs)
      if (!limited.has(attempt.handler)) countOutcome(attempt)
    },
    async flush() {
      // What could not be written goes first, by itself: it may have been written all the same.
      await writeReport()
      if (rows.size === 0) return
      unwritten = { id: randomUUIDv7(), rows: [...rows.values()], outcomes: [...outcomes.values()] }
      rows = new Map()
      outcomes = new Map()
      await writeReport()
    },
  }
}

async function write(sql: Sql, { id, rows, outcomes }: Report): Promise<void> {
  const storable = outcomes.map((own) => ({ ...own, lastError: keptText(own.lastError) }))
  await sql.begin(async (transaction) => {
    const { count } = await transaction`insert into store_groups (id) values (${id}) on conflict do nothing`
    if (count === 0) return
    await transaction`
      insert into delivery_minutes (minute, source, type, handler, attempts, failures, dead, duration_ms)
      select minute, source, type, handler, attempts, failures, dead, "durationMs"
      from json_to_recordset(${JSON.stringify(rows)}::json) as r (
        minute timestamptz, source text, type text, handler text, attempts integer, failures integer, dead integer,
        "durationMs" integer[]
      )`
    // In the order of the names, so that two workers cannot deadlock.
    await transaction`
      insert into destinations as d (
        handler, limited, consecutive_failures, last_success_at, last_failure_at, last_error
      )
      select
        handler, false, "failuresInARow", case when "hasSucceeded" then now() end,
        case when "lastError" is not null then now() end, "lastError"
      from json_to_recordset(${JSON.stringify(storable)}::json) as o (
        handler text, "hasSucceeded" boolean, "lastError" text, "failuresInARow" integer
      )
      order by handler
      on conflict (handler) do update set
        consecutive_failures = excluded.consecutive_failures
          + case when excluded.last_success_at is null then d.consecutive_failures else 0 end,
        last_success_at = coalesce(excluded.last_success_at, d.last_success_at),
        last_failure_at = coalesce(excluded.last_failure_at, d.last_failure_at),
        last_error = coalesce(excluded.last_error, d.last_error)`
  })
}
