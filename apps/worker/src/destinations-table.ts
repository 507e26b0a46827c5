import { textList } from '@ringback/core/store/connect'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { keptText } from './deliveries-table.ts'
import type { Destination } from './destination.ts'

// The table `destinations`: one row for each handler with limits, locked while a decision depends on it. Rows of handlers
// without limits are written by count-attempts.ts, and only count.

/** Adds the missing rows of handlers with limits. */
export async function addDestinations(sql: Sql | TransactionSql, handlers: string[]): Promise<void> {
  await sql`
    insert into destinations (handler)
    select name from json_array_elements_text(${JSON.stringify(handlers)}::json) as name order by name
    on conflict (handler) do update set limited = true where not destinations.limited`
}

/** Resets the rows of handlers that have no limits any more: nothing heeds their state now. */
export async function forgetLimits(sql: Sql, handlers: string[]): Promise<void> {
  await sql`
    update destinations
    set limited = false, state = 'closed', state_since = now(), open_until = null, openings = 0
    where limited and handler in ${textList(sql, handlers)}`
}

/**
 * How long a transaction that has locked a destination may idle. A frozen worker may have four, one for each job of the
 * handler, and they get the row one after the other: together they take less than the 10 s that others wait for a lock.
 */
const IDLE_MS = 2000

/**
 * The row, locked until the transaction ends, and the database's time. From then on Postgres ends the transaction of a worker
 * that stops or is cut off after a moment, because all workers wait for the row. One that a restore or a failover has lost is
 * made again.
 */
export async function lockDestination(
  sql: TransactionSql,
  handler: string,
): Promise<{ destination: Destination; now: Date }> {
  const [row] = await sql<(Destination & { now: Date })[]>`
    select
      state, state_since as "stateSince", open_until as "openUntil", openings, window_started_at as "windowStartedAt",
      window_attempts as "windowAttempts", window_failures as "windowFailures",
      consecutive_failures as "consecutiveFailures", tokens, tokens_at as "tokensAt", clock_timestamp() as now
    from destinations cross join set_config('idle_in_transaction_session_timeout', ${String(IDLE_MS)}, true)
    where handler = ${handler}
    for update of destinations`
  if (row === undefined) {
    await addDestinations(sql, [handler])
    return lockDestination(sql, handler)
  }
  const { now, ...destination } = row
  return { destination, now }
}

/** Attempts under way, over all workers; those whose worker died count no longer than their lease. */
export async function countRunning(sql: TransactionSql, handler: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from deliveries where handler = ${handler} and running and lease_until > now()`
  return row!.count
}

/** Writes what has become of a destination that the transaction has locked. */
export async function saveDestination(sql: TransactionSql, handler: string, after: Destination): Promise<void> {
  await sql`
    update destinations
    set
      state = ${after.state}, state_since = ${after.stateSince}, open_until = ${after.openUntil}, openings = ${after.openings},
      window_started_at = ${after.windowStartedAt}, window_attempts = ${after.windowAttempts},
      window_failures = ${after.windowFailures},
      consecutive_failures = ${after.consecutiveFailures}, tokens = ${after.tokens}, tokens_at = ${after.tokensAt}
    where handler = ${handler}`
}

/** Notes for people when the destination last succeeded and failed, and the last error. */
export async function noteOutcomes(
  sql: TransactionSql,
  handler: string,
  { hasSucceeded, error }: { hasSucceeded: boolean; error: string | undefined },
): Promise<void> {
  await sql`
    update destinations
    set
      last_success_at = case when ${hasSucceeded} then now() else last_success_at end,
      last_failure_at = case when ${error !== undefined} then now() else last_failure_at end,
      last_error = coalesce(${keptText(error)}, last_error)
    where handler = ${handler}`
}
