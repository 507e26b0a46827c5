import type { QueuedCallback, QueuedDrop, QueuedRefusal } from '@ringback/core/callback'
import type { Match } from '@ringback/core/filter'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { deferDeliveries } from './deliveries-table.ts'
import type { QueuedDelivery } from './deliveries-table.ts'

/** What has become of callbacks. */
export interface Stored {
  stored: number
  duplicates: number
  deliveries: { id: string; handler: string; receivedAt: string }[]
}

export interface ToStore {
  callbacks?: QueuedCallback[]
  quarantined?: QueuedRefusal[]
  dropped?: QueuedDrop[]
  matched?: Match[]
}

/** Stores each callback once, and makes the deliveries of those that are new. They are leased, as if about to be enqueued. */
export async function storeCallbacks(
  sql: TransactionSql,
  { callbacks = [], quarantined = [], dropped = [], matched = [] }: ToStore,
): Promise<Stored> {
  const [row] = await sql<{ result: Stored }[]>`
    select store_callbacks(
      ${JSON.stringify(callbacks)}, ${JSON.stringify(quarantined)}, ${JSON.stringify(dropped)}, ${JSON.stringify(matched)}, true
    ) as result`
  return row!.result
}

/** Leaves new deliveries, which no worker has in hand, to any worker's scanner, at once. */
export async function leaveToScanner(sql: Sql | TransactionSql, deliveries: Stored['deliveries']): Promise<void> {
  await deferDeliveries(sql, firstAttempts(deliveries), 0)
}

/** New deliveries as a job carries them. */
export function firstAttempts(deliveries: Stored['deliveries']): QueuedDelivery[] {
  return deliveries.map(({ id, receivedAt }) => ({ id, receivedAt, attempt: '1' }))
}
