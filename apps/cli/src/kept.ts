import type { Sql } from '@ringback/core/store/connect'

/** Throws, with what can still be done, for the id of an event or a delivery of which only the copy is left. */
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
