import { randomUUIDv7 } from 'node:crypto'
import { expect, test } from 'vitest'
import type { QueuedCallback, QueuedRefusal, StoreJob } from '@ringback/core/callback'
import { storeJob } from '@ringback/core/callback'
import { log as logAction } from '@ringback/core/handlers'
import type { QueueJob } from '@ringback/core/queue'
import { createStoreEvents } from '@ringback/worker/store-events'
import { configWith, freshDatabase, log } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

function queued(callbackId: string, fields: Partial<QueuedCallback> = {}): QueuedCallback {
  const raw = fields.raw ?? Buffer.from(JSON.stringify({ callback_id: callbackId })).toString('base64')
  return {
    id: randomUUIDv7(),
    source: 'voximplant',
    accountId: '1',
    callbackId,
    type: 'min_balance',
    verifiedBy: 'id',
    occurredAt: new Date().toISOString(),
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: {},
    ...fields,
    raw,
  }
}

function groupOf(callbacks: QueuedCallback[], quarantined: QueuedRefusal[] = []): QueueJob & { data: StoreJob } {
  const parts = [
    ...callbacks.map((callback) => ({ kind: 'callbacks' as const, json: JSON.stringify(callback) })),
    ...quarantined.map((refusal) => ({ kind: 'quarantined' as const, json: JSON.stringify(refusal) })),
  ]
  return { id: `group-${randomUUIDv7()}`, data: storeJob(parts) }
}

/** The worker's processor of store jobs, with one handler for everything. */
function storeInto(
  database: Database,
  { enqueueDeliveries = async () => {} }: { enqueueDeliveries?: () => Promise<void> } = {},
) {
  const { handlers } = configWith({ handlers: [{ name: 'all', run: logAction({ message: 'came' }) }] })
  return createStoreEvents({
    sql: database.sql,
    handlers,
    enqueueDeliveries,
    log,
    signal: new AbortController().signal,
  })
}

const counts = async ({ sql }: Database) => {
  const [row] = await sql`
    select
      (select count(*)::integer from events) as events,
      (select coalesce(sum(duplicates), 0)::integer from events) as duplicates,
      (select count(*)::integer from duplicates) as repetitions,
      (select count(*)::integer from deliveries) as deliveries,
      (select count(*)::integer from quarantine) as quarantined`
  return row
}

test('a group that comes again changes nothing, however it comes again', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const group = groupOf(
    ['a', 'b', 'a'].map((id) => queued(id)),
    [refusal()],
  )
  await Promise.all([store(group), store(group), store(group)])
  await store(group)
  expect(await counts(database)).toEqual({ events: 2, duplicates: 1, repetitions: 1, deliveries: 2, quarantined: 1 })
})

test('two callbacks with one name, stored at the same moment by two workers, are one event', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await Promise.all(Array.from({ length: 20 }, () => store(groupOf([queued('same')]))))
  expect(await counts(database)).toEqual({ events: 1, duplicates: 19, repetitions: 19, deliveries: 1, quarantined: 0 })
})

test('groups that share their names in opposite orders wait for each other only once', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const names = Array.from({ length: 100 }, (_, index) => `n${index}`)
  for (let round = 0; round < 20; round++) {
    await Promise.all([
      store(groupOf(names.map((name) => queued(name)))),
      store(groupOf(names.toReversed().map((name) => queued(name)))),
    ])
  }
  expect(await counts(database)).toMatchObject({ events: 100, duplicates: 3900, deliveries: 100 })
  const [{ deadlocks } = {}] =
    await database.sql`select deadlocks::integer from pg_stat_database where datname = current_database()`
  expect(deadlocks).toBe(0)
})

test('a name belongs to its source and its account', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(groupOf([queued('x'), queued('x', { accountId: '2' }), queued('x', { source: 'other' })]))
  expect(await counts(database)).toMatchObject({ events: 3, duplicates: 0 })
})

test('repetitions are counted without end, and kept up to a hundred an event', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(groupOf(Array.from({ length: 151 }, () => queued('x'))))
  expect(await counts(database)).toMatchObject({ events: 1, duplicates: 150, repetitions: 100 })
})

test('what Postgres can never store stands alone in quarantine, and takes nothing else with it', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const poison = queued('poison', { occurredAt: '2026-99-99T00:00:00Z' })
  const toxic = queued('toxic', { url: 'a\u0000b' })
  const callbacks = [...Array.from({ length: 30 }, (_, index) => queued(`g${index}`)), poison, queued('g0'), toxic]
  const group = groupOf(callbacks, [refusal(), { ...refusal(), url: '\u0000' }])
  await store(group)
  expect(await counts(database)).toEqual({ events: 30, duplicates: 1, repetitions: 1, deliveries: 30, quarantined: 4 })
  expect(
    await database.sql`select callback_id, body from quarantine where reason = 'not_storable' and error is not null order by 1`,
  ).toEqual([
    { callback_id: 'poison', body: Buffer.from(poison.raw, 'base64') },
    { callback_id: null, body: Buffer.from(toxic.raw, 'base64') },
  ])
  await store(group)
  expect(await counts(database)).toMatchObject({ events: 30, duplicates: 1, quarantined: 4 })
})

test('a callback of a time without a partition gets one', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(
    groupOf([
      queued('old', { id: idAt('2024-02-29T23:59:59.999Z') }),
      queued('future', { id: idAt('2031-01-01T00:00:00Z') }),
      queued('now'),
    ]),
  )
  expect(await counts(database)).toMatchObject({ events: 3, deliveries: 3, quarantined: 0 })
  const rows =
    await database.sql`select tableoid::regclass::text as partition, received_at from events order by received_at limit 1`
  expect(rows).toEqual([{ partition: 'events_2024w09', received_at: new Date('2024-02-29T23:59:59.999Z') }])
})

test('events are stored also while their deliveries cannot be enqueued', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database, { enqueueDeliveries: () => Promise.reject(new Error('the queue is away')) })
  await store(groupOf([queued('x')]))
  expect(await database.sql`select status, attempts from deliveries`).toEqual([{ status: 'pending', attempts: 0 }])
})

function refusal(): QueuedRefusal {
  return {
    id: randomUUIDv7(),
    source: 'voximplant',
    reason: 'hash_mismatch',
    method: 'POST',
    url: '/',
    headers: {},
    body: '',
  }
}

/** A UUIDv7 of that time. */
function idAt(time: string): string {
  const hex = Date.parse(time).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}${randomUUIDv7().slice(13)}`
}
