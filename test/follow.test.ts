import { randomUUIDv7 } from 'node:crypto'
import { followEvents } from '@ringback/cli/follow-events'
import type { Followed } from '@ringback/cli/follow-events'
import { connect } from '@ringback/core/store/connect'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { events } from '@ringback/core/store/schema'
import { eq } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/postgres-js'
import { expect, test } from 'vitest'
import { freshDatabase, idAt, queued } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

/** Stores events that were received then, as a worker stores them: with their group, made a moment later. */
async function store(
  { sql }: { sql: Sql | TransactionSql },
  receivedAt: Date,
  type = 't',
  count = 1,
): Promise<string[]> {
  const callbacks = Array.from({ length: count }, () => aQueued(receivedAt, type))
  const group = idAt(new Date(receivedAt.getTime() + 10).toISOString())
  await sql`select ensure_partitions(${receivedAt}, ${receivedAt})`
  await sql`select store_groups(array[${group}::uuid], ${JSON.stringify(callbacks)}, '[]', '[]', '[]', false)`
  return callbacks.map(({ id }) => id).toSorted()
}

function aQueued(receivedAt: Date, type: string) {
  const at = receivedAt.toISOString()
  return queued(randomUUIDv7(), { id: idAt(at), type, occurredAt: at })
}

const ago = (ms: number) => new Date(Date.now() - ms)
const HOURS = 3_600_000

/** What is found from the start on: `next(n)` waits for so many more. */
async function following(database: Database, followed: Partial<Followed> = {}) {
  const sql = connect(database.url, { max: 1, applicationName: 'ringback tests' })
  const pages = await followEvents(drizzle(sql), { wanted: undefined, since: undefined, ...followed })
  return {
    async next(count: number): Promise<string[]> {
      const found: string[] = []
      while (found.length < count) found.push(...((await pages.next()).value as string[]))
      return found
    },
    [Symbol.asyncDispose]: () => sql.end({ timeout: 0 }),
  }
}

test('what is stored is followed, however long ago it was received, and each event once', async () => {
  await using database = await freshDatabase()
  await store(database, ago(2 * HOURS))
  await store(database, ago(100))
  await using follow = await following(database)

  const live = await store(database, ago(50))
  expect(await follow.next(1)).toEqual(live)
  // From a spool, amid what was stored at its time.
  const late = await store(database, ago(2 * HOURS), 't', 3)
  expect(await follow.next(3)).toEqual(late)
  // Alerts, and what is released from quarantine, come with no group.
  const alert = aQueued(ago(0), 'alert.raised')
  await database.sql`select store_callbacks(${JSON.stringify([alert])}, '[]', '[]', '[]', false)`
  expect(await follow.next(1)).toEqual([alert.id])
  const both = [...(await store(database, ago(0))), ...(await store(database, ago(3 * HOURS)))]
  expect((await follow.next(2)).toSorted()).toEqual(both.toSorted())
})

test('what a transaction stores that began before the last look is followed once it has ended', async () => {
  await using database = await freshDatabase()
  await using follow = await following(database)
  const late = await database.sql.begin(async (sql) => {
    const live = await store(database, ago(0))
    expect(await follow.next(1)).toEqual(live)
    return store({ sql }, ago(2 * HOURS))
  })
  expect(await follow.next(1)).toEqual(late)
})

test('with a time, what is there since then comes first, in pages, and a filter holds for all of it', async () => {
  await using database = await freshDatabase()
  await store(database, ago(3 * HOURS), 'wanted')
  const there = await store(database, ago(2 * HOURS), 'wanted', 1500)
  await store(database, ago(HOURS), 'other')
  await using follow = await following(database, { wanted: eq(events.type, 'wanted'), since: ago(2.5 * HOURS) })
  expect(await follow.next(1500)).toEqual(there)
  await store(database, ago(1 * HOURS), 'other')
  const late = await store(database, ago(1 * HOURS), 'wanted')
  expect(await follow.next(1)).toEqual(late)
})
