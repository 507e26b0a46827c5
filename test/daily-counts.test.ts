import { expect, test } from 'vitest'
import { eventually, freshDatabase, groupOf, queued, startWorker, storeOneByOne } from './support/ringback.ts'

test('daily counts are those of the events, at every moment, while many workers store, repeat and fold', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const store = storeOneByOne(database)
  const types = ['min_balance', 'sms_inbound', 'card_expired']
  const groups = Array.from({ length: 60 }, (_, group) =>
    groupOf(
      // Each group repeats a third of the one before it.
      Array.from({ length: 30 }, (_one, index) => queued(`c${group * 20 + index}`, { type: types[index % 3]! })),
    ),
  )
  let isStoring = true
  const folding = Array.from({ length: 2 }, async () => {
    while (isStoring) {
      await sql`select fold_event_counts()`
      const [row] = await sql<{ counted: number; stored: number }[]>`
        select (select coalesce(sum(events), 0)::float8 from daily_counts) as counted, (select count(*)::float8 from events) as stored`
      expect(row!.counted).toBe(row!.stored)
    }
  })
  await Promise.all(groups.map((group) => store(group)))
  await Promise.all(groups.map((group) => store(group)))
  isStoring = false
  await Promise.all(folding)
  const byType = (table: string) =>
    sql.unsafe(
      `select type, sum(${table === 'events' ? 1 : 'events'})::integer as n from ${table} group by 1 order by 1`,
    )
  expect(await byType('daily_counts')).toEqual(await byType('events'))
  expect(
    await sql`select sum(events)::integer as events, sum(duplicates)::integer as duplicates from daily_counts`,
  ).toEqual([{ events: 1210, duplicates: 590 }])
  await sql`select fold_event_counts()`
  expect(await sql`select from event_counts_appended`).toHaveLength(0)
  expect(await sql`select sum(events)::integer as events from event_counts`).toEqual([{ events: 1210 }])
})

test('a worker folds the counts of what was stored, so that those that are added up for a day stay few', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await storeOneByOne(database)(groupOf([queued('1')]))
  expect(await sql`select from event_counts_appended`).toHaveLength(1)
  await using _worker = await startWorker(database)
  await eventually(async () => expect(await sql`select from event_counts_appended`).toHaveLength(0))
})

test('a worker folds the counts of any number of types, by statements that each end in time', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`
    insert into event_counts_appended (day, source, account_id, type, events, duplicates)
    select current_date, 'vobiz', '', n::text, 1, 0 from generate_series(1, 25000) as n`
  await using _worker = await startWorker(database)
  await eventually(async () => expect(await sql`select from event_counts_appended`).toHaveLength(0))
  const moved = await sql<{ count: number }[]>`
    select count(*)::integer as count from event_counts group by xmin::text order by 1`
  expect(moved.map(({ count }) => count)).toEqual([5000, 10_000, 10_000])
})
