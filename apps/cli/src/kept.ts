import type { Sql } from '@ringback/core/store/connect'
import { attempts, deliveries, events, keptAttempts, keptDeliveries, keptEvents } from '@ringback/core/store/schema'

/** Events with their deliveries and attempts, as they are stored. */
export const STORED = { events, deliveries, attempts }

/** The copies of dead letters that are kept when their partition has been dropped. */
export const KEPT = { events: keptEvents, deliveries: keptDeliveries, attempts: keptAttempts }

export type Tables = typeof STORED | typeof KEPT

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
