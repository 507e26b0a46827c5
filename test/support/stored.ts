import { randomUUIDv7 } from 'node:crypto'
import type { QueuedRefusal } from '@ringback/core/callback'
import { log } from '@ringback/core/handlers'
import type { QueueJob } from '@ringback/core/queue'
import { configWith, storeOneByOne } from './ringback.ts'
import type { Database } from './ringback.ts'

// What a worker stores of groups, and how much of it there is.

/** One handler, `all`, for everything. */
export const { handlers } = configWith({ handlers: [{ name: 'all', run: log({ message: 'came' }) }] })

/** The worker's processor of store jobs, with one handler for everything. */
export function storeInto(
  database: Database,
  { enqueueDeliveries = async () => {} }: { enqueueDeliveries?: () => Promise<void> } = {},
): (job: QueueJob) => Promise<void> {
  return storeOneByOne(database, { handlers, enqueueDeliveries })
}

export async function counts({ sql }: Database) {
  const [row] = await sql`
    select
      (select count(*)::integer from events) as events,
      (select coalesce(sum(duplicates), 0)::integer from events) as duplicates,
      (select count(*)::integer from duplicates) as repetitions,
      (select count(*)::integer from deliveries) as deliveries,
      (select count(*)::integer from quarantine) as quarantined`
  return row
}

/** A callback that failed verification, as ingest adds it to the queue. */
export function refusal(): QueuedRefusal {
  return {
    id: randomUUIDv7(),
    source: 'voximplant',
    reason: 'hash_mismatch',
    scope: 'callback',
    method: 'POST',
    url: '/',
    headers: {},
    body: '',
  }
}

/** The bytes of a JSON text, as the queue carries them. */
export function bytes(text: string): string {
  return Buffer.from(JSON.stringify(text)).toString('base64')
}
