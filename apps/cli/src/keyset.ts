import { and, lt, sql } from 'drizzle-orm'
import type { Column, SQL } from 'drizzle-orm'

/**
 * The condition for rows after the row `cursor` in a list with the newest first. Its id is a UUIDv7, whose time is the
 * receipt. With that time as a second condition, the partitions of later weeks are not read.
 */
export function before({ id, receivedAt }: { id: Column; receivedAt: Column }, cursor: string): SQL | undefined {
  return and(lt(id, cursor), sql`${receivedAt} <= uuid_extract_timestamp(${cursor}::uuid)`)
}

/** The least id of a millisecond: no UUIDv7 of that millisecond or a later one is less. */
export function firstIdAt(time: Date): string {
  const hex = Math.max(0, time.getTime()).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}
