import { randomUUIDv7 } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import type { GroupPart, QueuedCanary } from '@ringback/core/callback'
import { createRegistry } from '@ringback/core/metrics'
import { DEFAULT_RETENTION } from '@ringback/worker/retention'
import { addCanaryAge } from '../apps/worker/src/canary.ts'
import { beat } from '../apps/worker/src/heartbeat.ts'
import { prune } from '../apps/worker/src/prune.ts'
import { openAlerts } from './support/alerts.ts'
import {
  aCallback,
  eventually,
  freshDatabase,
  postCallbacks,
  queued,
  startIngest,
  startWorker,
  storeOneByOne,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

const often = { canaryIntervalMs: 50 }

const newestCanary = async ({ sql }: Database) => {
  const [row] = await sql<
    { sent: Date; left: Date | null }[]
  >`select canary_sent_at as sent, left_at as left from ingests`
  return row
}

const group = (...parts: GroupPart[]) => ({ id: `group-${randomUUIDv7()}`, data: storeJob(parts) })

function aCanary(fields: Partial<QueuedCanary> = {}): GroupPart {
  const canary = { ingest: 'a:1', host: 'a', startedAt: Date.now() - 1000, sentAt: Date.now(), ...fields }
  return { kind: 'canary', json: JSON.stringify(canary) }
}

function aQueuedCallback(callbackId: string): GroupPart {
  return { kind: 'callbacks', json: JSON.stringify(queued(callbackId)) }
}

test('a canary passes ingest, queue and worker to Postgres, and makes no event', async () => {
  await using database = await freshDatabase()
  await using _worker = await startWorker(database)
  {
    await using _ingest = await startIngest(database, often)
    const first = await eventually(async () => (await newestCanary(database))!.sent)
    await eventually(async () =>
      expect((await newestCanary(database))!.sent.getTime()).toBeGreaterThan(first.getTime()),
    )
    expect((await newestCanary(database))!.left).toBeNull()
  } // says goodbye when it ends
  await eventually(async () => expect((await newestCanary(database))!.left).not.toBeNull())
  expect(await database.sql`select from ingests`).toHaveLength(1)
  for (const table of ['events', 'event_names', 'quarantine']) {
    expect(await database.sql`select from ${database.sql(table)}`).toHaveLength(0)
  }
})

test('an ingest is heard of anew after a gap of a minute', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const store = storeOneByOne(database)
  const heardFor = async () => {
    const [row] = await sql<{ minutes: number }[]>`
      select floor(extract(epoch from now() - heard_since) / 60)::integer as minutes from ingests`
    return row!.minutes
  }
  await store(group(aCanary()))
  await sql`update ingests set heard_since = now() - interval '1 hour', canary_stored_at = now() - interval '55 seconds'`
  await store(group(aCanary()))
  expect(await heardFor()).toBe(60)
  await sql`update ingests set canary_stored_at = now() - interval '65 seconds'`
  await store(group(aCanary()))
  expect(await heardFor()).toBe(0)
})

test('canaries travel among callbacks, whose groups are stored once as ever', async () => {
  await using database = await freshDatabase()
  const store = storeOneByOne(database)
  const sentAt = Date.now() - 1000
  const job = group(aQueuedCallback('1'), aCanary({ sentAt }), aQueuedCallback('2'), aCanary({ sentAt: sentAt + 1 }))
  await Promise.all([store(job), store(job)])
  await store(job)
  expect(await database.sql`select callback_id as id, duplicates from events order by 1`).toEqual([
    { id: '1', duplicates: 0 },
    { id: '2', duplicates: 0 },
  ])
  expect(await database.sql`select name, canary_sent_at as "sentAt" from ingests`).toEqual([
    { name: 'a:1', sentAt: new Date(sentAt + 1) },
  ])
})

test('of canaries that come in any order the newest counts, and a wrong clock is got over', async () => {
  await using database = await freshDatabase()
  const store = storeOneByOne(database)
  const sent = async (fields: Partial<QueuedCanary>) => {
    await store(group(aCanary(fields)))
    const [row] = await database.sql`
      select (extract(epoch from canary_sent_at) * 1000)::float8 as at, left_at is not null as left, spool_groups::integer as groups,
        spool_bytes::integer as bytes
      from ingests`
    return row
  }
  const at = Date.now() - 60_000
  expect(await sent({ sentAt: at, isLast: true })).toEqual({ at, left: true, groups: null, bytes: null })
  expect(await sent({ sentAt: at - 1000 })).toEqual({ at, left: true, groups: null, bytes: null })
  const spool = { groups: 3, bytes: 10 }
  expect(await sent({ sentAt: at + 1000, spool })).toEqual({ at: at + 1000, left: false, groups: 3, bytes: 10 })
  const ahead = Date.now() + 3_600_000
  expect(await sent({ sentAt: ahead })).toMatchObject({ at: ahead })
  expect(await sent({ sentAt: at + 2000 })).toMatchObject({ at: at + 2000 })
})

test('an ingest that is started again under its name is known by its last start', async () => {
  await using database = await freshDatabase()
  const store = storeOneByOne(database)
  const startedAt = Date.now() - 1000
  await store(group(aCanary({ startedAt: startedAt - 3_600_000, sentAt: startedAt - 1 })))
  await store(group(aCanary({ startedAt })))
  expect(await database.sql`select started_at from ingests`).toEqual([{ started_at: new Date(startedAt) }])
})

test('a canary that cannot be stored keeps nothing from being stored', async () => {
  await using database = await freshDatabase()
  await storeOneByOne(database)(
    group(aQueuedCallback('1'), { kind: 'canary', json: '{"ingest":null,"sentAt":"never"}' }),
  )
  expect(await database.sql`select from events`).toHaveLength(1)
  expect(await database.sql`select from ingests`).toHaveLength(0)
})

test('while the queue is down there are no canaries, and afterwards there are', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using _worker = await startWorker(database)
  await using ingest = await startIngest(database, { ...often, queue: { ...database.queue, url: way.url } })
  await eventually(async () => expect(await newestCanary(database)).toBeDefined())
  await way.cut()
  await eventually(async () => expect((await postCallbacks(ingest, aCallback(1))).status).toBe(503))
  // Those that were on their way arrive.
  const last = await eventually(async () => {
    const { sent } = (await newestCanary(database))!
    expect(Date.now() - sent.getTime()).toBeGreaterThan(1000)
    return sent
  })
  await way.restore()
  await eventually(async () => expect((await newestCanary(database))!.sent.getTime()).toBeGreaterThan(last.getTime()))
})

test('what is known of processes and of the server of the queue is forgotten in time', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  for (const days of [1, 400]) {
    const name = `from ${days} days ago`
    const at = new Date(Date.now() - days * 86_400_000)
    await sql`
      insert into ingests (name, host, started_at, canary_sent_at, canary_stored_at) values (${name}, '', ${at}, ${at}, ${at})`
    await sql`insert into workers values (${name}, ${at})`
    await sql`insert into queue_identities values (7, ${name}, ${at}, ${at})`
    await sql`insert into queue_losses values (${at}, ${name}, '')`
  }
  await using _worker = await startWorker(database)
  for (const table of ['ingests', 'workers', 'queue_identities', 'queue_losses']) {
    await eventually(async () => {
      const rows = await sql<{ text: string }[]>`select t::text as text from ${sql(table)} as t`
      const texts = rows.map(({ text }) => text).join()
      expect(texts).toContain('from 1 days ago')
      expect(texts).not.toContain('from 400 days ago')
    })
  }
})

test('a worker says again and again that it lives', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await beat(sql, 'a:1')
  await sql`update workers set seen_at = seen_at - interval '8 days'`
  await beat(sql, 'a:1')
  await prune(sql, DEFAULT_RETENTION)
  expect(await sql`select name, seen_at > now() - interval '1 minute' as just from workers`).toEqual([
    { name: 'a:1', just: true },
  ])
})

test('the age of the newest canary is on /metrics, and grows while Postgres is down', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.url)
  const registry = createRegistry()
  await using _worker = await startWorker(database, { databaseUrl: way.url, registry })
  const age = async () => /^ringback_canary_age_seconds (.+)$/m.exec(await registry.metrics())?.[1]
  expect(await age()).toBeUndefined()
  {
    await using _ingest = await startIngest(database, often)
    await eventually(async () => expect(Number(await age())).toBeLessThan(5))
    way.freeze()
  }
  await eventually(async () => expect(Number(await age())).toBeGreaterThan(5))
  await way.restore()
})

test('the age on /metrics is that of the newest canary of all ingests that have not ended', async () => {
  await using database = await freshDatabase()
  const registry = createRegistry()
  addCanaryAge(registry, database.sql)
  for (const [name, seconds, hasLeft] of [
    ['a', 5000, false],
    ['b', 1000, false],
    ['c', 1, true],
  ] as const) {
    await database.sql`
      insert into ingests (name, host, started_at, canary_sent_at, canary_stored_at, left_at)
      select ${name}, ${name}, at, at, at, case when ${hasLeft} then at end
      from (select now() - ${seconds} * interval '1 second' as at) as sent`
  }
  const [, age] = /^ringback_canary_age_seconds (.+)$/m.exec(await registry.metrics())!
  expect(Math.round(Number(age) / 100)).toBe(10)
})

describe('the alert', () => {
  interface Row {
    /** When its last canary was sent, and arrived. */
    secondsAgo: number
    startedAgo?: number
    host?: string
    hasLeft?: boolean
    groups?: number | null
  }
  async function knows({ sql }: Database, ingests: Record<string, Row>): Promise<void> {
    await sql`delete from ingests`
    for (const [name, row] of Object.entries(ingests)) {
      const { secondsAgo, startedAgo = 90_000, host = name, hasLeft = false, groups = null } = row
      await sql`
        insert into ingests (name, host, started_at, canary_sent_at, canary_stored_at, spool_groups, spool_bytes, left_at)
        select
          ${name}, ${host}, now() - ${startedAgo} * interval '1 second', at, at, ${groups}::integer, ${groups}::integer * 100,
          case when ${hasLeft} then at end
        from (select now() - ${secondsAgo} * interval '1 second' as at) as sent`
    }
  }

  test('of late canaries comes after canarySeconds and goes with the next canary', async () => {
    await using database = await freshDatabase()
    expect(await openAlerts(database)).toEqual([]) // nothing was ever heard
    await knows(database, { a: { secondsAgo: 50 } })
    expect(await openAlerts(database)).toEqual([])
    expect(await openAlerts(database, { alerts: { canarySeconds: 40 } })).toEqual(['canary_late:'])
    await knows(database, { b: { secondsAgo: 70 }, a: { secondsAgo: 80 }, c: { secondsAgo: 90 } })
    expect(await openAlerts(database)).toEqual(['canary_late:'])
    const [alert] = await database.sql`select details ->> 'ingest' as newest from alerts where state = 'open'`
    expect(alert).toEqual({ newest: 'b' })
    await knows(database, { a: { secondsAgo: 3 }, b: { secondsAgo: 4 } })
    expect(await openAlerts(database)).toEqual([])
  })

  test('of one ingest among several names it, for an hour', async () => {
    await using database = await freshDatabase()
    await knows(database, { a: { secondsAgo: 3 }, b: { secondsAgo: 100 } })
    expect(await openAlerts(database)).toEqual(['canary_late:b'])
    await knows(database, { a: { secondsAgo: 3 }, b: { secondsAgo: 3601 } })
    expect(await openAlerts(database)).toEqual([])
  })

  test.each<[string, Record<string, Row>]>([
    ['one that was scaled down', { a: { secondsAgo: 3 }, b: { secondsAgo: 600, hasLeft: true } }],
    ['all that were scaled down', { a: { secondsAgo: 600, hasLeft: true } }],
    [
      'one that was killed and started again',
      { 'a:1': { secondsAgo: 600, host: 'a' }, 'a:2': { secondsAgo: 3, host: 'a', startedAgo: 590 } },
    ],
    ['those of yesterday', { a: { secondsAgo: 86_401 } }],
  ])('is not raised for %s', async (_which, ingests) => {
    await using database = await freshDatabase()
    await knows(database, ingests)
    expect(await openAlerts(database)).toEqual([])
  })

  test('is not raised for one that was killed and started again, whatever the clock of its machine was then', async () => {
    await using database = await freshDatabase()
    const store = storeOneByOne(database)
    const successor = (fields: Partial<QueuedCanary>) => aCanary({ ingest: 'a:2', host: 'a', ...fields })
    await knows(database, { 'a:1': { secondsAgo: 600, host: 'a' } })
    await store(group(successor({ startedAt: 0, sentAt: 10_000 }))) // in 1970
    await store(group(successor({ startedAt: Date.now() - 590_000 })))
    expect(await openAlerts(database)).toEqual([])
    await database.sql`update ingests set canary_sent_at = now() + interval '1 day' where name = 'a:1'`
    expect(await openAlerts(database)).toEqual([])
  })

  test('of a killed ingest stays while only others on its host go on', async () => {
    await using database = await freshDatabase()
    await knows(database, { 'a:1': { secondsAgo: 600, host: 'a' }, 'a:2': { secondsAgo: 3, host: 'a' } })
    expect(await openAlerts(database)).toEqual(['canary_late:a:1'])
  })

  test('of a spool in use names the ingest, also one that has ended, until another on its host has taken it up', async () => {
    await using database = await freshDatabase()
    await knows(database, { a: { secondsAgo: 1, groups: 0 }, b: { secondsAgo: 1, groups: 5 } })
    expect(await openAlerts(database)).toEqual(['spool_in_use:b'])
    await knows(database, { 'b:1': { secondsAgo: 600, groups: 5, hasLeft: true, host: 'b' } })
    expect(await openAlerts(database)).toEqual(['spool_in_use:b:1'])
    await knows(database, {
      'b:1': { secondsAgo: 600, groups: 5, hasLeft: true, host: 'b' },
      'b:2': { secondsAgo: 1, groups: 0, host: 'b' },
    })
    expect(await openAlerts(database)).toEqual([])
  })

  test('of a spool in use is not taken back by another ingest on its host while its own goes on, and is by a day', async () => {
    await using database = await freshDatabase()
    await knows(database, {
      'b:1': { secondsAgo: 10, groups: 5, host: 'b' },
      'b:2': { secondsAgo: 1, groups: 0, host: 'b' },
    })
    expect(await openAlerts(database)).toEqual(['spool_in_use:b:1'])
    await knows(database, { 'b:1': { secondsAgo: 86_401, groups: 5, hasLeft: true } })
    expect(await openAlerts(database)).toEqual([])
  })

  test('of a spool in use stays, though others go on, where their disks are not its own', async () => {
    await using database = await freshDatabase()
    await knows(database, {
      'a:1': { secondsAgo: 1, groups: 0 },
      'b:1': { secondsAgo: 600, groups: 5, hasLeft: true },
    })
    expect(await openAlerts(database)).toEqual(['spool_in_use:b:1'])
  })
})
