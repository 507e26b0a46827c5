import { expect, test } from 'vitest'
import type { QueuedCallback } from '@ringback/core/callback'
import { connect } from '@ringback/core/store/connect'
import { createRetention, DEFAULT_RETENTION } from '@ringback/worker/retention'
import type { Retention } from '@ringback/worker/retention'
import { runApp, runCli } from './support/processes.ts'
import {
  environmentFor,
  eventually,
  freshDatabase,
  groupOf,
  idAt,
  keptLog,
  log,
  queued,
  untilAdvisoryLockIsWaitedFor,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { storeInto } from './support/stored.ts'

const DAY_MS = 86_400_000

function daysAgo(days: number): string {
  return new Date(Date.now() - days * DAY_MS).toISOString()
}

/** A callback that was received then. */
const queuedAt = (callbackId: string, receivedAt: string) =>
  queued(callbackId, { id: idAt(receivedAt), occurredAt: receivedAt })

/** Stores these callbacks as one group, each with one delivery. */
const store = (database: Database, ...callbacks: QueuedCallback[]) => storeInto(database)(groupOf(callbacks))

/** Partitions as if each had been made before its week, and not by this test. */
async function madeInTime({ sql }: Database): Promise<void> {
  await sql`update partitions_made set made_at = '2020-01-01'`
}

/** Ends the delivery of an event, after one attempt. */
async function finish({ sql }: Database, callbackId: string, status: 'succeeded' | 'dead'): Promise<void> {
  await sql`
    with finished as (
      update deliveries as d
      set status = ${status}, next_attempt_at = null, attempts = 1, finished_at = now(), last_error = 'no answer'
      from events as e
      where e.id = d.event_id and e.callback_id = ${callbackId}
      returning d.id, d.event_received_at
    )
    insert into attempts (delivery_id, event_received_at, number, outcome, error)
    select id, event_received_at, 1, 'failed', 'no answer' from finished`
}

function retentionOf(
  { url }: Database,
  retention: Partial<Retention> = {},
  logger = log,
  now = Date.now,
): () => Promise<void> {
  return createRetention({ databaseUrl: url, retention: { ...DEFAULT_RETENTION, ...retention }, log: logger, now })
}

/** A name whose event is not there any more. */
async function nameAt({ sql }: Database, callbackId: string, at: string): Promise<void> {
  await sql`
    insert into event_names (source, account_id, callback_id, event_id, received_at)
    values ('s', '', ${callbackId}, ${idAt(at)}, ${at}::text::timestamptz)`
}

/** Keeps a request in quarantine that came at this time. */
async function refuseAt({ sql }: Database, at: string): Promise<void> {
  await sql`select ensure_partitions(${at}::text::timestamptz, ${at}::text::timestamptz)`
  await sql`
    insert into quarantine (id, source, reason, received_at, method, url, headers, body)
    values (${idAt(at)}, 's', 'r', ${at}::text::timestamptz, 'POST', '/', '{}', '')`
}

async function counts({ sql }: Database) {
  const [row] = await sql`
    select
      (select count(*)::integer from events) as events,
      (select count(*)::integer from deliveries) as deliveries,
      (select count(*)::integer from kept_events) as kept,
      (select count(*)::integer from kept_deliveries) as "keptDeliveries",
      (select count(*)::integer from kept_attempts) as "keptAttempts"`
  return row
}

test('weeks over their time are dropped once by many workers, and their dead letters are kept as they were', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('dead', daysAgo(100)), queuedAt('done', daysAgo(100)), queuedAt('older', daysAgo(120)))
  await store(database, queuedAt('new', daysAgo(80)))
  await finish(database, 'dead', 'dead')
  for (const callbackId of ['done', 'older', 'new']) await finish(database, callbackId, 'succeeded')
  await madeInTime(database)
  const [event] = await sql`select * from events where callback_id = 'dead'`
  const [delivery] = await sql`select * from deliveries where event_id = ${event!.id}`
  const [attempt] = await sql`select * from attempts where delivery_id = ${delivery!.id}`

  const workers = Array.from({ length: 4 }, () => retentionOf(database))
  await Promise.all(workers.map((run) => run()))
  await workers[0]!()

  expect(await counts(database)).toEqual({ events: 1, deliveries: 1, kept: 1, keptDeliveries: 1, keptAttempts: 1 })
  expect((await sql`select * from kept_events`)[0]).toEqual({ ...event, kept_at: expect.any(Date) as Date })
  expect((await sql`select * from kept_deliveries`)[0]).toEqual({ ...delivery, kept_at: expect.any(Date) as Date })
  expect((await sql`select * from kept_attempts`)[0]).toEqual({ ...attempt, kept_at: expect.any(Date) as Date })
  expect(
    await sql`
      select relname from pg_class
      where relname ~ '\\d{4}w\\d{2}$' and relkind = 'r' and not exists (select from pg_inherits where inhrelid = pg_class.oid)`,
  ).toHaveLength(0)
  await store(database, queuedAt('dead', daysAgo(0)))
  expect(await counts(database)).toMatchObject({ events: 1 })
})

test('a week goes when all of it is over its time, and not before', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  // The week in which it was 90 days ago is not over its time, though most of it may be; the one before is.
  const [{ first, before } = {}] = await sql<{ first: Date; before: Date }[]>`
    select week as first, week - interval '1 ms' as before
    from (select date_trunc('week', now() - interval '90 days', 'UTC') as week) as weeks`
  await store(database, queuedAt('first of its week', first!.toISOString()))
  await store(database, queuedAt('last of the week before', before!.toISOString()))
  await sql`update deliveries set status = 'succeeded', next_attempt_at = null, finished_at = now()`
  await madeInTime(database)
  await retentionOf(database)()
  expect(await sql`select callback_id from events`).toEqual([{ callback_id: 'first of its week' }])
})

test('what has still to be done is never dropped, nor is anything else of its week', async () => {
  await using database = await freshDatabase()
  const at = daysAgo(100)
  await store(database, queuedAt('pending', at), queuedAt('done', at))
  await finish(database, 'done', 'succeeded')
  await madeInTime(database)
  const { lines, log: logger } = keptLog()
  const run = retentionOf(database, {}, logger)
  await run()
  await run()
  expect(await counts(database)).toMatchObject({ events: 2, deliveries: 2 })
  expect(lines.filter(({ msg }) => msg === 'partition.has_pending')).toHaveLength(1)
  await finish(database, 'pending', 'succeeded')
  await run()
  expect(await counts(database)).toEqual({ events: 0, deliveries: 0, kept: 0, keptDeliveries: 0, keptAttempts: 0 })
})

test('a dead letter that is retried just as its week is to go keeps the week', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('dead', daysAgo(100)))
  await finish(database, 'dead', 'dead')
  await madeInTime(database)
  const retrying = connect(database.url, { max: 1, applicationName: 'an operator' })
  await retrying.unsafe('begin')
  await retrying`update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null`

  const running = retentionOf(database)()
  await eventually(async () => expect(await sql`select from pg_inherits where inhdetachpending`).toHaveLength(1))
  await retrying.unsafe('commit')
  await retrying.end()
  await running

  expect(await counts(database)).toMatchObject({ events: 1, deliveries: 1, kept: 0 })
})

test('events go on being stored while a partition waits for a long reader, and it goes when the reader has gone', async () => {
  await using database = await freshDatabase()
  await store(database, queuedAt('old', daysAgo(100)))
  await finish(database, 'old', 'dead')
  await madeInTime(database)
  const reader = connect(database.url, { max: 1, applicationName: 'a reader' })
  await reader.unsafe('begin')
  await reader`select count(*) from events, deliveries`
  const { lines, log: logger } = keptLog()
  const run = retentionOf(database, {}, logger)

  const running = run()
  await eventually(async () =>
    expect(await database.sql`select from pg_inherits where inhdetachpending`).toHaveLength(1),
  )
  let stored = 0
  let slowestMs = 0
  const isOver = running.then(() => true)
  while (!(await Promise.race([isOver, Promise.resolve(false)]))) {
    const startedAt = performance.now()
    await store(database, queuedAt(`new ${stored++}`, daysAgo(0)))
    slowestMs = Math.max(slowestMs, performance.now() - startedAt)
  }
  expect(stored).toBeGreaterThan(20)
  expect(slowestMs).toBeLessThan(1000)
  expect(lines).toContainEqual(expect.objectContaining({ msg: 'partition.in_use' }))
  expect(await counts(database)).toMatchObject({ events: stored + 1, keptDeliveries: 0 })

  await reader.unsafe('commit')
  await reader.end()
  await run()
  expect(await counts(database)).toMatchObject({ events: stored, kept: 1, keptDeliveries: 1, keptAttempts: 1 })
  expect(lines).toContainEqual(expect.objectContaining({ msg: 'partition.dropped', keptDeadLetters: 1 }))
})

test.each(['deliveries', 'events', 'attempts', 'duplicates'])(
  'what comes again though its week is to go holds up nothing that comes with it, while somebody reads %s',
  async (table) => {
    await using database = await freshDatabase()
    const { sql } = database
    await store(database, queuedAt('old', daysAgo(100)))
    await finish(database, 'old', 'succeeded')
    await madeInTime(database)
    const reader = connect(database.url, { max: 1, applicationName: 'a reader' })
    await reader.unsafe('begin')
    await reader.unsafe(`select count(*) from ${table}`)
    await retentionOf(database)()
    expect(await sql`select from pg_inherits where inhdetachpending`).toHaveLength(1)

    await store(database, queuedAt('old', daysAgo(0)), queuedAt('new', daysAgo(0)))

    expect(await sql`select from events where callback_id = 'new'`).toHaveLength(1)
    await reader.unsafe('commit')
    await reader.end()
    await retentionOf(database)()
    expect(await sql`select callback_id from events`).toEqual([{ callback_id: 'new' }])
  },
)

test('a long reader of two weeks that are to go keeps nothing else from going', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('old', daysAgo(110)), queuedAt('less old', daysAgo(100)))
  for (const callbackId of ['old', 'less old']) await finish(database, callbackId, 'succeeded')
  const reader = connect(database.url, { max: 1, applicationName: 'a reader' })
  await reader.unsafe('begin')
  await reader`select count(*) from events, deliveries`
  const run = retentionOf(database, { quarantineDays: 30, nameDays: 90 })

  for (const time of ['first', 'second']) {
    await refuseAt(database, daysAgo(50))
    await sql`insert into store_groups (id, stored_at) values (uuidv7(), now() - interval '8 days')`
    await nameAt(database, 'oldest', daysAgo(400))
    await madeInTime(database)
    await run()
    expect(await sql`select from quarantine`, time).toHaveLength(0)
    expect(await sql`select from store_groups where stored_at < now() - interval '7 days'`, time).toHaveLength(0)
    expect(await sql`select from event_names where callback_id = 'oldest'`, time).toHaveLength(0)
  }

  await reader.unsafe('commit')
  await reader.end()
  await run()
  expect(await counts(database)).toMatchObject({ events: 0, deliveries: 0 })
})

test('all else that has expired is deleted though a week of events cannot be dropped, which is told of', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('old', daysAgo(100)))
  await finish(database, 'old', 'dead')
  await refuseAt(database, daysAgo(100))
  await madeInTime(database)
  await sql`insert into store_groups (id, stored_at) values (uuidv7(), now() - interval '8 days')`
  await nameAt(database, 'oldest', daysAgo(400))
  await sql`alter table kept_events add constraint no_room check (false)`

  await expect(retentionOf(database, { nameDays: 90 })()).rejects.toThrow('no_room')

  expect(await sql`select from quarantine`).toHaveLength(0)
  expect(await sql`select from store_groups where stored_at < now() - interval '7 days'`).toHaveLength(0)
  expect(await sql`select callback_id from event_names`).toEqual([{ callback_id: 'old' }])
})

test("a week goes and its dead letters are kept, whatever columns of the user's the tables have", async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql.unsafe(`
    alter table events add column note text default 'mine', add column kept_note text default 'mine',
      add column place bigint generated always as identity, add column kind text generated always as (type || '!') stored;
    alter table kept_events add column kept_note text, add column kind text generated always as (type || '!') stored`)
  await store(database, queuedAt('old', daysAgo(100)))
  await finish(database, 'old', 'dead')
  await madeInTime(database)
  await retentionOf(database)()
  expect(await counts(database)).toMatchObject({ events: 0, kept: 1, keptDeliveries: 1, keptAttempts: 1 })
  expect(await sql`select kept_note, kind from kept_events`).toEqual([{ kept_note: 'mine', kind: 'min_balance!' }])
})

test('a run that was killed between detaching and dropping loses nothing: the next one finishes it', async () => {
  await using database = await freshDatabase()
  const at = daysAgo(100)
  await store(database, queuedAt('dead', at))
  await finish(database, 'dead', 'dead')
  await madeInTime(database)
  for (const parent of ['deliveries', 'attempts']) {
    const [{ name } = {}] = await database.sql`
      select relname as name from pg_class
      where relname = ${parent} || to_char(${at}::text::timestamptz at time zone 'UTC', '"_"IYYY"w"IW')`
    await database.sql.unsafe(`alter table ${parent} detach partition ${name as string} concurrently`)
  }
  await retentionOf(database)()
  expect(await counts(database)).toEqual({ events: 0, deliveries: 0, kept: 1, keptDeliveries: 1, keptAttempts: 1 })
})

test('an event that comes for a week which is just being dropped brings it back whole', async () => {
  await using database = await freshDatabase()
  const at = daysAgo(100)
  await store(database, queuedAt('first', at))
  await madeInTime(database)
  const [{ week } = {}] = await database.sql<{ week: string }[]>`
    select to_char(${at}::text::timestamptz at time zone 'UTC', 'IYYY"w"IW') as week`
  for (const parent of ['deliveries', 'attempts', 'duplicates', 'events']) {
    await database.sql.unsafe(`alter table ${parent} detach partition ${parent}_${week} concurrently`)
  }
  await store(database, queuedAt('late', at))
  expect(await counts(database)).toMatchObject({ events: 2, deliveries: 2 })
})

test('a week that is brought back while it waits to be dropped stays', async () => {
  await using database = await freshDatabase()
  const at = daysAgo(100)
  await store(database, queuedAt('first', at))
  await finish(database, 'first', 'succeeded')
  await madeInTime(database)
  const late = connect(database.url, { max: 1, applicationName: 'a worker' })
  await late.unsafe('begin')
  await late`select pg_advisory_xact_lock(hashtext('ringback.ensure_partitions'))`

  const running = retentionOf(database)()
  await untilAdvisoryLockIsWaitedFor(database)
  await late`select ensure_partitions(${at}::text::timestamptz, ${at}::text::timestamptz)`
  await late.unsafe('commit')
  await late.end()
  await running

  expect(await counts(database)).toMatchObject({ events: 1, deliveries: 1 })
})

test('a week that a wrong clock has made late is kept for its time all the same', async () => {
  await using database = await freshDatabase()
  await store(database, queuedAt('from 2001', '2001-01-01T00:00:00Z'))
  await finish(database, 'from 2001', 'succeeded')
  await retentionOf(database)()
  expect(await counts(database)).toMatchObject({ events: 1 })
  await database.sql`update partitions_made set made_at = now() - interval '91 days' where name ~ '2001'`
  await retentionOf(database)()
  expect(await counts(database)).toMatchObject({ events: 0 })
})

test('nothing is deleted while the clock of the database is ahead, which is told of once', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('old', daysAgo(100)))
  await finish(database, 'old', 'succeeded')
  await madeInTime(database)
  await sql`insert into store_groups (id, stored_at) values (uuidv7(), now() - interval '8 days')`
  await sql`insert into queue_losses values (now() - interval '400 days', 'w', '')`
  await sql`insert into queue_identities values (7, 'former', now() - interval '91 days', now() - interval '91 days')`
  const before = await sql`select from store_groups`
  const { lines, log: logger } = keptLog()
  const run = retentionOf(database, { nameDays: 90 }, logger, () => Date.now() - 100 * DAY_MS)
  await run()
  await run()
  expect(await counts(database)).toMatchObject({ events: 1, deliveries: 1 })
  expect(await sql`select from event_names`).toHaveLength(1)
  expect(await sql`select from store_groups`).toHaveLength(before.length)
  expect(await sql`select from queue_losses`).toHaveLength(1)
  expect(await sql`select from queue_identities`).toHaveLength(1)
  expect(lines).toMatchObject([
    { msg: 'retention.paused', problem: "the database's clock is 8640000 s ahead of this machine's" },
  ])
  await retentionOf(database)()
  expect(await counts(database)).toMatchObject({ events: 0, deliveries: 0 })
})

test('what has no partitions is deleted after its time, and nothing before', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('old', daysAgo(400)), queuedAt('less old', daysAgo(300)), queuedAt('new', daysAgo(1)))
  for (const callbackId of ['old', 'less old']) await finish(database, callbackId, 'dead')
  await madeInTime(database)
  await sql`
    insert into alerts (key, kind, subject, state, raised_at, resolved_at, occurrences, text, details)
    select 'k' || n, 'dead_letters', '', case when n = 3 then 'open' else 'resolved' end, now() - age,
      case when n <> 3 then now() - age end, 1, '', '{}'
    from (values (1, interval '91 days'), (2, interval '89 days'), (3, interval '91 days')) as ages (n, age)`
  await sql`
    insert into quarantine_dropped (recorded_at, source, reason, count)
    values (now() - interval '31 days', 's', 'r', 1), (now() - interval '29 days', 's', 'r', 1)`
  await sql`
    insert into store_groups (id, stored_at)
    select uuidv7(), now() - interval '8 days' from generate_series(1, 10001) union all select uuidv7(), now() - interval '6 days'`
  await sql`
    insert into nonces (source, nonce, content_hash, received_at)
    values ('s', 'old', '', now() - interval '91 days'), ('s', 'new', '', now() - interval '89 days')`
  await sql`
    insert into unended_calls
    values ('not watched any more', 'old', ${daysAgo(1.1)}), ('not watched any more', 'new', ${daysAgo(0.9)})`
  await sql`insert into workers values ('old', ${daysAgo(8)}), ('new', ${daysAgo(6)})`
  await sql`
    insert into ingests (name, host, started_at, canary_sent_at, canary_stored_at)
    select name, '', at, at, at
    from (values ('old', ${daysAgo(8)}::timestamptz), ('new', ${daysAgo(6)}::timestamptz)) as ingests (name, at)`
  await sql`
    insert into queue_identities
    values (1, 'old', ${daysAgo(100)}, ${daysAgo(91)}), (1, 'new', ${daysAgo(100)}, ${daysAgo(89)})`
  await sql`insert into queue_losses values (${daysAgo(366)}, 'old', ''), (${daysAgo(364)}, 'new', '')`
  await refuseAt(database, daysAgo(50))
  await refuseAt(database, daysAgo(0))
  await madeInTime(database)

  await retentionOf(database, { quarantineDays: 30, nameDays: 350 })()

  expect(await sql`select callback_id from kept_events`).toEqual([{ callback_id: 'less old' }])
  expect(await sql`select from kept_deliveries`).toHaveLength(1)
  expect(await sql`select from kept_attempts`).toHaveLength(1)
  expect(await sql`select key from alerts order by key`).toEqual([{ key: 'k2' }, { key: 'k3' }])
  expect(await sql`select from quarantine_dropped`).toHaveLength(1)
  expect(await sql`select from quarantine`).toHaveLength(1)
  expect(
    await sql`select count(*) filter (where stored_at < now() - interval '7 days')::integer as old, count(*) > 0 as any from store_groups where stored_at < now() - interval '5 days'`,
  ).toEqual([{ old: 0, any: true }])
  expect(await sql`select nonce from nonces`).toEqual([{ nonce: 'new' }])
  expect(await sql`select call_id from unended_calls`).toEqual([{ call_id: 'new' }])
  expect(await sql`select name from workers`).toEqual([{ name: 'new' }])
  expect(await sql`select name from ingests`).toEqual([{ name: 'new' }])
  expect(await sql`select identity from queue_identities`).toEqual([{ identity: 'new' }])
  expect(await sql`select detected_by from queue_losses`).toEqual([{ detected_by: 'new' }])
  expect(await sql`select callback_id from event_names order by 1`).toEqual([
    { callback_id: 'less old' },
    { callback_id: 'new' },
  ])
})

test('a name is kept as long as its event, also of one that was received long before it was stored', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('spooled', daysAgo(20)))
  await finish(database, 'spooled', 'succeeded')
  const run = retentionOf(database, { days: 7, nameDays: 7 })
  await run()
  await store(database, queuedAt('spooled', daysAgo(0)))
  expect(await sql`select callback_id, duplicates from events`).toEqual([{ callback_id: 'spooled', duplicates: 1 }])
  await madeInTime(database)
  await run()
  expect(await sql`select from events`).toHaveLength(0)
  expect(await sql`select from event_names`).toHaveLength(0)
})

test('of a large table of names a part is looked at each time, and in the end every part', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`alter table event_names set (fillfactor = 10)`
  await sql`
    insert into event_names (source, account_id, callback_id, event_id, received_at)
    select 's', '', n::text, uuidv7(), now() - interval '400 days' from generate_series(1, 40000) as n`
  const left = async () => (await sql<{ n: number }[]>`select count(*)::integer as n from event_names`)[0]!.n
  const run = retentionOf(database, { nameDays: 350 })
  await run()
  expect(await left()).toBeGreaterThan(0)
  for (let time = 0; time < 4; time++) await run()
  expect(await left()).toBe(0)
})

test('a worker keeps things as long as its variables say', async () => {
  await using database = await freshDatabase()
  await database.sql`
    insert into quarantine_dropped (recorded_at, source, reason, count)
    values (${daysAgo(8)}, 's', 'r', 1), (${daysAgo(6)}, 's', 'r', 1)`
  await using _worker = runApp('worker', { ...(await environmentFor(database)), RETENTION_DAYS: '7' })
  await eventually(async () => expect(await database.sql`select from quarantine_dropped`).toHaveLength(1))
})

test('the command line shows what is kept of dead letters, and says why it cannot run again', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await store(database, queuedAt('dead', daysAgo(100)))
  await finish(database, 'dead', 'dead')
  const [{ id, event_id: eventId } = {}] = await sql<{ id: string; event_id: string }[]>`select * from deliveries`
  await madeInTime(database)
  await retentionOf(database)()
  const ringback = (...args: string[]) => runCli({ DATABASE_URL: database.url }, ...args)

  const event = await ringback('events', 'show', eventId!, '--json')
  expect(JSON.parse(event.output)).toMatchObject({
    callbackId: 'dead',
    keptAt: expect.any(String) as string,
    deliveries: [{ id, handler: 'all', status: 'dead', runs: [{ number: 1, error: 'no answer' }] }],
  })
  const delivery = await ringback('deliveries', 'show', id!, '--json')
  expect(JSON.parse(delivery.output)).toMatchObject({ id, event: { id: eventId }, runs: [{ number: 1 }] })
  for (const command of [
    ['replay', eventId!],
    ['replay', id!],
    ['deliveries', 'retry', id!],
  ]) {
    const { output } = await ringback(...command)
    expect(output).toMatch(/is over RETENTION_DAYS.*kept for reading only/s)
  }
})
