import type { Sql } from '@ringback/core/store/connect'

/** Throws, saying what can still be done, if of an event or delivery with this id only the kept copy is left. */
export async function assertNotOnlyKept(sql: Sql, id: string): Promise<void> {
  const [kept] = await sql`
    select from kept_events where id = ${id}
    union all
    select from kept_deliveries where id = ${id}`
  if (kept === undefined) return
  throw new Error(
    `${id} is over RETENTION_DAYS: a dead letter that is kept for reading only, and cannot run again. "ringback events show" ` +
      'has its payload, to be sent to the destination by hand',
  )
}
