import { randomUUIDv7 } from 'node:crypto'
import { expect, test } from 'vitest'
import type { DeliveriesJob } from '@ringback/core/callback'
import { storeJob } from '@ringback/core/callback'
import { freshDatabase, groupOf, idAt, keptLog, queued, storeOneByOne, storeRounds } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { bytes, counts, handlers, refusal, storeInto } from './support/stored.ts'

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

test('groups of one round are stored as if each had come alone, in one transaction', async () => {
  await using database = await freshDatabase()
  const handedOver: DeliveriesJob[] = []
  const store = storeRounds(database, {
    handlers,
    enqueueDeliveries: async (job) => void handedOver.push(job),
  })
  const groups = [
    groupOf([queued('a'), queued('b')], [refusal()]),
    groupOf([queued('b'), queued('c')]),
    groupOf([queued('a'), queued('d')], [refusal()]),
  ]
  await Promise.all(store(groups))
  const once = { events: 4, duplicates: 2, repetitions: 2, deliveries: 4, quarantined: 2 }
  expect(await counts(database)).toEqual(once)
  expect(await database.sql`select count(distinct xmin::text)::integer as transactions from events`).toEqual([
    { transactions: 1 },
  ])
  expect(handedOver.map(({ deliveries }) => deliveries.length)).toEqual([4])
  await Promise.all(store(groups))
  expect(await counts(database)).toEqual(once)
})

test('a round in which one group was stored before, one is poisoned and one cannot be read stores all the others', async () => {
  await using database = await freshDatabase()
  const store = storeRounds(database, { handlers })
  const before = groupOf([queued('before')])
  await Promise.all(store([before]))
  const unreadable = { id: `group-${randomUUIDv7()}`, data: { version: '2' } }
  const round = [
    groupOf([queued('a')]),
    before,
    groupOf([queued('b'), queued('poison', { occurredAt: '2026-99-99T00:00:00Z' })]),
    unreadable,
    groupOf([queued('c'), queued('old', { id: idAt('2024-02-29T23:59:59.999Z') })]),
  ]
  const endings = await Promise.allSettled(store(round))
  expect(endings.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  expect(endings[3]).toMatchObject({ reason: { name: 'Error', delayMs: expect.any(Number) } })
  const names = await database.sql`select callback_id from events order by 1`
  expect(names.map((row) => row.callback_id)).toEqual(['a', 'b', 'before', 'c', 'old'])
  expect(await counts(database)).toMatchObject({ duplicates: 0, deliveries: 5, quarantined: 1 })
})

test('of two callbacks with one name in a round that is parted, the one that came first is the event', async () => {
  await using database = await freshDatabase()
  const store = storeRounds(database)
  const first = queued('same')
  const round = [
    // Takes much longer than those behind it.
    groupOf([...Array.from({ length: 3000 }, (_, index) => queued(`n${index}`)), first]),
    groupOf([queued('poison', { occurredAt: '2026-99-99T00:00:00Z' })]),
    groupOf([queued('same')]),
  ]
  await Promise.all(store(round))
  expect(await database.sql`select id, duplicates from events where callback_id = 'same'`).toEqual([
    { id: first.id, duplicates: 1 },
  ])
})

test('the same groups in many rounds at a time, in other orders and other company, are stored once', async () => {
  await using database = await freshDatabase()
  const store = storeRounds(database)
  const groups = Array.from({ length: 30 }, (_, index) => groupOf([queued(`n${index}`), queued('shared')]))
  const rounds = Array.from({ length: 6 }, (_, round) => {
    const turned = [...groups.slice(round * 5), ...groups.slice(0, round * 5)]
    return round % 2 === 0 ? turned : turned.toReversed()
  })
  await Promise.all(rounds.flatMap((round) => store(round)))
  expect(await counts(database)).toMatchObject({ events: 31, duplicates: 29 })
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

test('of two callbacks with one name in one group the first is the event', async () => {
  await using database = await freshDatabase()
  const [first, second] = [queued('same', { raw: bytes('first') }), queued('same', { raw: bytes('second') })]
  // Whose id is the greater one, so that it is not the first by chance.
  await storeInto(database)(groupOf([second, first]))
  expect(await database.sql`select id, payload, duplicates from events`).toEqual([
    { id: second.id, payload: 'second', duplicates: 1 },
  ])
})

test('what is stored is its worker’s for half a minute, which is about to enqueue it', async () => {
  await using database = await freshDatabase()
  await storeInto(database)(groupOf([queued('x')]))
  expect(
    await database.sql`select lease_until between now() + interval '20 s' and now() + interval '30 s' as leased from deliveries`,
  ).toEqual([{ leased: true }])
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

test('an event is updated once for all its repetitions in one transaction, so that thousands of them delay nobody else', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql.unsafe(`
    create table updates (callback_id text);
    create function note_update() returns trigger language plpgsql as
      $$ begin insert into updates values (new.callback_id); return null; end $$;
    create trigger note_update after update on events for each row execute function note_update()`)
  const store = storeInto(database)
  const copies = (name: string, count: number) => Array.from({ length: count }, () => queued(name))
  await store(groupOf([...copies('a', 61), ...copies('b', 151)]))
  await store(groupOf(copies('a', 60)))
  expect(await sql`select callback_id, duplicates from events order by 1`).toEqual([
    { callback_id: 'a', duplicates: 120 },
    { callback_id: 'b', duplicates: 150 },
  ])
  expect(await counts(database)).toMatchObject({ duplicates: 270, repetitions: 200 })
  expect((await sql`select callback_id from updates order by 1`).map((row) => row.callback_id)).toEqual(['a', 'a', 'b'])
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

test('beside what can never be stored a nonce still counts once, and so does what was not kept', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(groupOf([queued('x', { nonces: ['n1'], raw: bytes('first') })]))
  const callbacks = [
    queued('poison', { occurredAt: '2026-99-99T00:00:00Z' }),
    queued('y', { nonces: ['n1'], raw: bytes('forged') }),
  ]
  const parts = callbacks.map((callback) => ({ kind: 'callbacks' as const, json: JSON.stringify(callback) }))
  const dropped = JSON.stringify({ source: 'voximplant', reason: 'hash_mismatch', count: 7 })
  await store({ id: `group-${randomUUIDv7()}`, data: storeJob([...parts, { kind: 'dropped', json: dropped }]) })
  expect(await database.sql`select callback_id from events`).toEqual([{ callback_id: 'x' }])
  expect(await database.sql`select reason from quarantine order by reason`).toEqual([
    { reason: 'nonce_reused' },
    { reason: 'not_storable' },
  ])
  expect(await database.sql`select count from quarantine_dropped`).toEqual([{ count: 7 }])
})

/** From now on rows of a table for which `isLocked` holds cannot be inserted, as if somebody had locked them. */
const lock = ({ sql }: Database, table: string, isLocked: string) =>
  sql.unsafe(`
    create function locked() returns trigger language plpgsql as $$
    begin
      if ${isLocked} then raise exception 'locked' using errcode = 'lock_not_available'; end if;
      return new;
    end $$;
    create trigger locked before insert on ${table} for each row execute function locked()`)

test.each([
  ['event_names', "new.source = 'locked'"],
  ['quarantine', "new.url = '/kept'"],
])('beside what can never be stored, what is only locked (%s) waits, and is not put aside', async (table, isLocked) => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await lock(database, table, isLocked)
  const poison = queued('poison', { occurredAt: '2026-99-99T00:00:00Z' })
  const group = groupOf([poison, queued('a', { source: 'locked' })], [{ ...refusal(), source: 'locked', url: '/kept' }])
  await expect(store(group)).rejects.toThrow('cannot be stored at this moment')
  expect(await counts(database)).toMatchObject({ events: 0, quarantined: 0 })
  await database.sql.unsafe(`drop trigger locked on ${table}`)
  await store(group)
  expect(await counts(database)).toMatchObject({ events: 1, quarantined: 2 })
  expect(await database.sql`select from quarantine where url = '/kept'`).toHaveLength(1)
})

test('what is locked again and again, while others are stored, is never put aside', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await lock(database, 'event_names', "new.callback_id = 'locked'")
  const group = groupOf([queued('locked')])
  // More often than a group that is to blame for it may fail.
  for (let time = 0; time < 7; time++) {
    await expect(store(group)).rejects.toThrow('cannot be stored at this moment')
    await store(groupOf([queued(`other ${time}`)]))
  }
  expect(await counts(database)).toMatchObject({ events: 7, quarantined: 0 })
})

test('what a trigger refuses again and again is put aside, also where the others are stored together', async () => {
  await using database = await freshDatabase()
  const store = storeRounds(database)
  await database.sql.unsafe(`
    create function refused() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
    create trigger refused before insert on event_names for each row
    when (new.callback_id = 'refused') execute function refused()`)
  const group = groupOf([queued('refused')])
  for (let time = 0; time < 5; time++) {
    await expect(store([group])[0]).rejects.toThrow('cannot be stored at this moment')
  }
  await Promise.all(store(['a', 'b', 'c', 'd', 'e'].map((id) => groupOf([queued(id)]))))
  await store([group])[0]
  expect(await counts(database)).toMatchObject({ events: 5, quarantined: 1 })
})

test('what breaks a rule of the tables stands alone in quarantine, too', async () => {
  await using database = await freshDatabase()
  await storeInto(database)(groupOf([queued('a'), queued('b', { verifiedBy: 'hearsay' as never }), queued('c')]))
  expect(await counts(database)).toMatchObject({ events: 2, quarantined: 1 })
})

test('reports of ingest that cannot be stored are given up, for they are worth no queue that stands still', async () => {
  await using database = await freshDatabase()
  const json = JSON.stringify({ minute: 'no time', source: 'a', outcomes: {}, ackMs: [], refusedInARow: 0 })
  await storeInto(database)({ id: `group-${randomUUIDv7()}`, data: storeJob([{ kind: 'counted', json }]) })
  expect(await database.sql`select from source_minutes`).toHaveLength(0)
})

test('reports of ingest that cannot be stored at the moment wait, and are not given up', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await lock(database, 'source_minutes', 'true')
  const counted = { minute: '2026-02-03T04:05:00Z', source: 'a', outcomes: { forged: 3 }, ackMs: [], refusedInARow: 3 }
  const json = JSON.stringify(counted)
  const report = { id: `group-${randomUUIDv7()}`, data: storeJob([{ kind: 'counted', json }]) }
  await expect(store(report)).rejects.toThrow('cannot be stored at this moment')
  await database.sql`drop trigger locked on source_minutes`
  await store(report)
  expect(await database.sql`select forged from source_minutes`).toEqual([{ forged: 3 }])
})

test('a refusal of a time without a partition gets one', async () => {
  await using database = await freshDatabase()
  await storeInto(database)(groupOf([], [{ ...refusal(), id: idAt('2024-02-29T23:59:59.999Z') }]))
  expect(await counts(database)).toMatchObject({ quarantined: 1 })
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

test('so does one that Postgres refuses at first, and the quarantine of one that it always refuses', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const lastYear = (raw: string) =>
    queued(raw.slice(0, 20), { id: idAt('2024-05-01T00:00:00Z'), raw: Buffer.from(raw).toString('base64') })
  await store(groupOf([lastYear('{"text":"a\\u0000b"}'), lastYear('[1]')]))
  await database.sql`drop table quarantine_2024w18`
  await store(groupOf([lastYear('[2]'), lastYear('['.repeat(50_000) + ']'.repeat(50_000))]))
  expect(await counts(database)).toMatchObject({ events: 3, quarantined: 1 })
})

test('a group that comes again when its id is forgotten changes nothing but counts', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const group = groupOf([queued('a'), queued('a'), queued('b')], [refusal(), refusal()])
  await store(group)
  await database.sql`delete from store_groups`
  await store(group)
  expect(await counts(database)).toMatchObject({ events: 2, repetitions: 3, deliveries: 2, quarantined: 2 })
})

test('events are stored also while their deliveries cannot be enqueued', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database, { enqueueDeliveries: () => Promise.reject(new Error('the queue is down')) })
  await store(groupOf([queued('x')]))
  // In nobody's hand, so that the scanner takes it at once.
  expect(await database.sql`select status, attempts, lease_until from deliveries`).toEqual([
    { status: 'pending', attempts: 0, lease_until: null },
  ])
})

test('a repetition whose fields are in another order has not changed, and of one that has the bytes are kept', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const raw = (json: string) => Buffer.from(json).toString('base64')
  for (const json of ['{"a":1,"b":2}', '{"b":2, "a":1}', '{"a":1,"b":3}'])
    await store(groupOf([queued('x', { raw: raw(json) })]))
  expect(await database.sql`select changed, raw from duplicates order by id`).toEqual([
    { changed: false, raw: null },
    { changed: true, raw: Buffer.from('{"a":1,"b":3}') },
  ])
})

test('a repetition is counted on the day on which it came, with the hash of its own bytes; the last is the one that came last', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const store = storeInto(database)
  const raw = (json: string) => Buffer.from(json).toString('base64')
  await store(groupOf([queued('x', { id: idAt('2026-01-01T23:00:00Z'), raw: raw('{"a":1}') })]))
  await store(groupOf([queued('x', { id: idAt('2026-01-03T01:00:00Z'), raw: raw('{"a":2}') })]))
  // It waited in a spool, and is stored after one that came later.
  await store(groupOf([queued('x', { id: idAt('2026-01-02T12:00:00Z'), raw: raw('{"a":1}') })]))
  expect(await sql`select duplicates, last_duplicate_at from events`).toEqual([
    { duplicates: 2, last_duplicate_at: new Date('2026-01-03T01:00:00Z') },
  ])
  expect(
    await sql`
      select changed, content_hash = sha256(case when changed then '{"a":2}'::bytea else '{"a":1}' end) as hashed
      from duplicates order by received_at`,
  ).toEqual([
    { changed: false, hashed: true },
    { changed: true, hashed: true },
  ])
  expect(
    await sql`select day::text, events::integer, duplicates::integer from daily_counts where events + duplicates > 0 order by day`,
  ).toEqual([
    { day: '2026-01-01', events: 1, duplicates: 0 },
    { day: '2026-01-02', events: 0, duplicates: 1 },
    { day: '2026-01-03', events: 0, duplicates: 1 },
  ])
})

test('which secret verified an event, and why shadow mode would have refused it, can be asked by SQL', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(groupOf([queued('a', { secret: 2 }), queued('b', { wouldRefuse: 'hash_mismatch', verifiedBy: 'none' })]))
  expect(
    await database.sql`select callback_id, secret, verified_by, would_refuse from events order by callback_id`,
  ).toEqual([
    { callback_id: 'a', secret: 2, verified_by: 'id', would_refuse: null },
    { callback_id: 'b', secret: null, verified_by: 'none', would_refuse: 'hash_mismatch' },
  ])
})

test('a group that has taken more than one worker with it is named, one of a worker that was killed is not', async () => {
  await using database = await freshDatabase()
  const { lines, log } = keptLog('warn')
  const store = storeOneByOne(database, { log })
  const groups = [0, 1, 2].map((stalls) => ({ ...groupOf([queued(String(stalls))]), stalls }))
  for (const group of groups) await store(group)
  expect(lines).toMatchObject([{ msg: 'group.stalled', groupId: groups[2]!.id.replace('group-', ''), times: 2 }])
  expect(await counts(database)).toMatchObject({ events: 3 })
})
