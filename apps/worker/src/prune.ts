import type { Sql } from '@ringback/core/store/connect'
import type { Retention } from './retention.ts'

// Deletes from the tables without partitions, row by row. Batches are short transactions, which nobody waits for.

/** How many rows one statement deletes. */
const BATCH = 5000

/** Deletes what has expired in the tables that have no partitions. */
export async function prune(sql: Sql, retention: Retention): Promise<void> {
  const { days, quarantineDays } = retention
  const deadLetterDays = Math.max(days, retention.deadLetterDays)
  await deleteOld('store_groups', ['stored_at'], 7)
  await deleteOld('nonces', ['received_at'], 90)
  await deleteOld('source_minutes', ['minute'], 30)
  await deleteOld('delivery_minutes', ['minute'], 30)
  await deleteOld('quarantine_dropped', ['recorded_at'], quarantineDays)
  await deleteOld('kept_attempts', ['event_received_at'], deadLetterDays)
  await deleteOld('kept_deliveries', ['event_received_at'], deadLetterDays)
  await deleteOld('kept_events', ['received_at'], deadLetterDays)
  // By both times: raised_at has the index, and resolved_at keeps alerts that are open.
  await deleteOld('alerts', ['raised_at', 'resolved_at'], days)
  // Calls that end are forgotten by the watch.
  await deleteOld('unended_calls', ['first_event_at'], 1)
  await deleteOld('ingests', ['canary_stored_at'], 7)
  await deleteOld('workers', ['seen_at'], 7)
  await deleteOld('queue_identities', ['last_seen_at'], 90)
  await deleteOld('queue_losses', ['detected_at'], 365)

  /** Deletes rows of which each of these times is older than `keptDays`. */
  async function deleteOld(table: string, times: string[], keptDays: number): Promise<void> {
    const condition = times.map((time) => `${time} < now() - $1 * interval '1 day'`).join(' and ')
    for (let deleted = BATCH; deleted === BATCH;) {
      const { count } = await sql.unsafe(
        `delete from ${table} where ctid = any (array(select ctid from ${table} where ${condition} limit ${BATCH}))`,
        [keptDays],
      )
      deleted = count
    }
  }
}

/** How many blocks of event_names one call reads: 16 MB. */
const BLOCKS = 2000

/**
 * Makes the function that deletes expired names, if names expire. Those of a week whose events are still there stay: events
 * can have been stored long after they were received, or wait for their deliveries. Each call reads the next part of the
 * table: an index by time would cost every event more than that. It begins at a random place, because workers may be
 * restarted often.
 */
export function createPruneNames({ nameDays }: Retention): (sql: Sql) => Promise<void> {
  if (nameDays === undefined) return async () => {}
  let next: number | undefined

  return async (sql) => {
    const [table] = await sql<{ blocks: number }[]>`
      select (pg_relation_size('event_names') / current_setting('block_size')::integer)::float8 as blocks`
    const { blocks } = table!
    next ??= Math.floor(Math.random() * Math.max(0, blocks - BLOCKS))
    const start = next < blocks ? next : 0
    await sql.unsafe(
      `delete from event_names
       where ctid >= '(${start},0)' and ctid < '(${start + BLOCKS},0)' and received_at < now() - $1 * interval '1 day'
         and to_regclass('events_' || to_char(received_at at time zone 'UTC', 'IYYY"w"IW')) is null`,
      [nameDays],
    )
    next = start + BLOCKS
  }
}
