import { expect, test } from 'vitest'
import { connect } from '@ringback/core/store/connect'
import { ensurePartitions } from '@ringback/core/store/partitions'
import { databaseOn, ownPostgres } from './support/postgres-server.ts'
import { eventually, freshDatabase, groupOf, idAt, queued, startWorker, storeOneByOne } from './support/ringback.ts'

// Postgres lets a session overlook a partition that is attached while the session reads the list of a table's partitions.

test('a session that has overlooked partitions stores what belongs there, and then others find it that overlooked them too', async () => {
  await using server = await ownPostgres()
  await using database = await databaseOn(server)
  const at = '2024-02-29T12:00:00Z'
  const sessions = Array.from({ length: 2 }, () => connect(database.url, { max: 1, applicationName: 'ringback tests' }))
  const found = async () =>
    (await Promise.all(sessions.map((sql) => sql`select from events`))).map((rows) => rows.length)
  // After this, these sessions need pg_class only for the partitions of events that they have just listed.
  for (const sql of sessions) await sql`select from quarantine, only events`
  const listing = await database.sql.begin(async (transaction) => {
    await transaction`lock table pg_class in access exclusive mode`
    const finding = found()
    const waiting = () => transaction`select from pg_locks where relation = 'pg_class'::regclass and not granted`
    await expect.poll(waiting).toHaveLength(sessions.length)
    await transaction`select ensure_partitions(${at}, ${at})`
    return { finding }
  })
  await listing.finding

  await storeOneByOne(database)(groupOf([queued('first', { id: idAt(at) })]))
  // If this fails, Postgres has been mended.
  expect(await found()).toEqual([0, 0])
  await storeOneByOne({ sql: sessions[0]! })(groupOf([queued('second', { id: idAt(at) })]))
  expect(await found()).toEqual([2, 2])
  await Promise.all(sessions.map((sql) => sql.end()))
})

test('partitions that are made ahead are announced once they are attached, and not again', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const changes = async () => {
    const [row] = await sql<{ attached: string; announced: string }[]>`
      select
        (select xmin::text from pg_inherits where inhparent = 'events'::regclass order by age(xmin) limit 1) as attached,
        (select xmin::text from pg_attribute where attrelid = 'events'::regclass and attname = 'id') as announced`
    return row!
  }
  const before = await changes()
  await ensurePartitions(sql)
  expect(await changes()).toEqual(before)
  const [next] = await sql<
    { week: string }[]
  >`select to_char(now() at time zone 'UTC' + interval '7 days', 'IYYY"w"IW') as week`
  await sql`drop table ${sql(`events_${next!.week}`)}`
  await ensurePartitions(sql)
  const after = await changes()
  expect(after.attached).not.toBe(before.attached)
  expect(Number(after.announced)).toBeGreaterThan(Number(after.attached))
})

test('a worker makes the partitions of the next week before anything comes for them', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const next = async () => {
    const [row] = await sql<{ name: string; isThere: boolean }[]>`
      select name, to_regclass(name) is not null as "isThere"
      from to_char(now() at time zone 'UTC' + interval '7 days', '"events_"IYYY"w"IW') as name`
    return row!
  }
  await sql`drop table ${sql((await next()).name)}`
  await using _worker = await startWorker(database)
  await eventually(async () => expect(await next()).toMatchObject({ isThere: true }))
})

test('partitions of every table are announced, so that deliveries are not lost from sight where events are found', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  // A table whose columns have changed is one whose list of partitions every session reads again.
  const changes = () => sql<{ parent: string; announced: string }[]>`
    select parent::regclass::text as parent, max(a.xmin::text::bigint)::text as announced
    from (select distinct inhparent as parent from pg_inherits join pg_class on oid = inhparent where relkind = 'p') as parents
    join pg_attribute as a on a.attrelid = parent
    group by 1 order by 1`
  const before = await changes()
  expect(before.map(({ parent }) => parent)).toEqual(['attempts', 'deliveries', 'duplicates', 'events', 'quarantine'])
  await sql`select announce_partitions()`
  const after = await changes()
  expect(after.filter(({ announced }, index) => announced === before[index]!.announced)).toEqual([])
})
