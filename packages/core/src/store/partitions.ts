import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql } from './connect.ts'

/** By then a session that was reading a table's partitions when one was attached has read them. */
const LONGEST_READING_MS = 250

/** Makes the partitions of this week and the next two. Others are made when something arrives for them. */
export async function ensurePartitions(sql: Sql): Promise<void> {
  const [row] = await sql<{ attached: number }[]>`
    select ensure_partitions(now(), now() + interval '14 days') as attached`
  if (row!.attached > 0) await announcePartitions(sql)
}

/**
 * Has every session find the partitions that were attached until now. To be called after any is attached, for Postgres lets
 * a session overlook one; migration 0018 says why. Takes a quarter of a second.
 */
export async function announcePartitions(sql: Sql): Promise<void> {
  await sleep(LONGEST_READING_MS)
  await sql`select announce_partitions()`
}
