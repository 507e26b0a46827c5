import type { Sql } from '@ringback/core/store/connect'

/** What is kept for so long only. Each has an index on its time. */
const KEPT = [
  { table: 'store_groups', time: 'stored_at', days: 7 },
  { table: 'nonces', time: 'received_at', days: 90 },
  { table: 'source_minutes', time: 'minute', days: 30 },
  { table: 'delivery_minutes', time: 'minute', days: 30 },
] as const

/** Deleted by one statement, well within the time that a statement may take. */
const BATCH = 10_000

/** Deletes what is older than it is kept, piece by piece: after a long pause there may be millions. */
export async function deleteOldRows(sql: Sql, signal: AbortSignal): Promise<void> {
  for (const { table, time, days } of KEPT) {
    let deleted: number
    do {
      const result = await sql`
        delete from ${sql(table)}
        where ctid = any(array(
          select ctid from ${sql(table)} where ${sql(time)} < now() - ${days} * interval '1 day' limit ${BATCH}
        ))`
      deleted = result.count
    } while (deleted === BATCH && !signal.aborted)
  }
}
