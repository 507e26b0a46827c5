import { and, lt, sql } from 'drizzle-orm'
import type { Column, SQL } from 'drizzle-orm'

/**
 * What comes after a row in a list with the newest first. The id is a UUIDv7, and its time is that of receipt: said as
 * well, it leaves the partitions of later weeks unread.
 */
export function before({ id, receivedAt }: { id: Column; receivedAt: Column }, cursor: string): SQL | undefined {
  return and(lt(id, cursor), sql`${receivedAt} <= uuid_extract_timestamp(${cursor}::uuid)`)
}
