import type { Sql } from '@ringback/core/store/connect'
import type { Retention } from './retention.ts'

// What is deleted row by row, for it has no partitions. Batches are short transactions, which nobody waits for.

/** Rows that are deleted by one statement. */
const BATCH = 5000

/** Deletes what is over its time in the tables that have no partitions. */
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
  // By both times: the one has the index, and an alert that is open stays.
  await deleteOld('alerts', ['raised_at', 'resolved_at'], days)

  /** Rows of which each of these times is older than `keptDays`. */
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

/** Blocks of event_names that are looked at in one call: 16 MB. */
const BLOCKS = 2000

/**
 * Makes the function that forgets old names, if they are to be forgotten. Each call looks at the next part of the table:
 * an index by time would cost every event more than that. It begins anywhere, for workers that are often restarted.
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
       where ctid >= '(${start},0)' and ctid < '(${start + BLOCKS},0)' and received_at < now() - $1 * interval '1 day'`,
      [nameDays],
    )
    next = start + BLOCKS
  }
}
