import { and, lt, sql } from 'drizzle-orm'
import type { Column, SQL } from 'drizzle-orm'

/**
 * What comes after a row in a list with the newest first. The id is a UUIDv7, and its time is that of receipt: said as
 * well, it leaves the partitions of later weeks unread.
 */
export function before({ id, receivedAt }: { id: Column; receivedAt: Column }, cursor: string): SQL | undefined {
  return and(lt(id, cursor), sql`${receivedAt} <= uuid_extract_timestamp(${cursor}::uuid)`)
}

/** No UUIDv7 of that millisecond or a later one is less. */
export function firstIdAt(time: Date): string {
  const hex = Math.max(0, time.getTime()).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}
