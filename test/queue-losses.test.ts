import { randomUUIDv7 } from 'node:crypto'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import { createProducer } from '@ringback/core/queue'
import { createDetectLosses } from '../apps/worker/src/queue-losses.ts'
import { openAlerts } from './support/alerts.ts'
import { eventually, freshDatabase, log, startWorker, storeOneByOne } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

test('what is found of lost data is remembered once, when Postgres takes it; another shard is none, another server is', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const server = { loss: undefined as string | undefined, identity: 'a' }
  const producer = { detectLoss: async () => server.loss, identity: async () => server.identity }
  const detect = createDetectLosses({ sql, producers: [producer, producer], worker: 'w', log })
  const losses = async () => {
    const rows = await sql<
      { text: string }[]
    >`select left(description, 24) as text from queue_losses order by detected_at`
    return rows.map(({ text }) => text)
  }
  await detect()
  server.identity = 'a,b'
  await detect()
  expect(await losses()).toEqual([])
  await sql`update queue_identities set last_seen_at = now() - interval '2 minutes'`
  await detect()
  expect(await sql`select from queue_identities where last_seen_at > now() - interval '1 minute'`).toHaveLength(2)
  const whileNoneIsTaken = async (change: () => void) => {
    await sql`alter table queue_losses rename to elsewhere`
    change()
    await expect(detect()).rejects.toThrow('queue_losses')
    await sql`alter table elsewhere rename to queue_losses`
  }
  await whileNoneIsTaken(() => (server.identity = 'a,c'))
  await detect()
  await detect()
  expect(await losses()).toEqual(['the queue is not the one'])

  await whileNoneIsTaken(() => (server.loss = 'it has lost 3 writes'))
  server.loss = undefined
  await detect()
  await detect()
  expect(await losses()).toEqual(['the queue is not the one', 'it has lost 3 writes'])
})

/** Sets the queue's server back, as a failover to a replica that lagged would. */
async function forgetWrites({ sql, queue }: Database): Promise<void> {
  if (queue.kind === 'postgres') {
    await sql`update bullmq.ringback_producers set count = 0`
    return
  }
  const redis = new Redis(queue.url)
  const keys = await redis.keys(`${queue.prefix}*`)
  const identity = keys.find((key) => key.endsWith(':identity'))
  await redis.del(...keys.filter((key) => key !== identity))
  redis.disconnect()
}

test('lost data of the queue are noticed by their server, told of once, and remembered', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await using _worker = await startWorker(database, { monitoringIntervalMs: 50 })
  const losses = async () =>
    (await sql<{ description: string }[]>`select description from queue_losses order by detected_at`).map(
      ({ description }) => description,
    )
  const known = () => eventually(async () => expect(await sql`select from queue_identities`).toHaveLength(1))
  await known()
  expect(await losses()).toEqual([])

  // Another server was here before.
  await sql`update queue_identities set identity = 'another'`
  await eventually(async () =>
    expect(await losses()).toEqual([expect.stringContaining('is not the one that was here')]),
  )
  await eventually(async () => expect(await sql`select from queue_identities`).toHaveLength(2))
  await sql`delete from queue_losses`

  await forgetWrites(database)
  await eventually(async () => expect((await losses()).join()).toMatch(/writes that it had acknowledged are gone/))
  await eventually(async () =>
    expect(await sql`select from alerts where kind = 'queue_data_lost' and state = 'open'`).toHaveLength(1),
  )
})

test('in Postgres the count of a process is kept while it asks, and for a day after', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`
    insert into bullmq.ringback_producers (process, count, seen_at)
    values (uuidv7(), 10, now() - interval '25 hours'), (uuidv7(), 20, now() - interval '23 hours')`
  const producer = createProducer({ kind: 'postgres', url: database.url }, 'store', { timeoutMs: 2000, log })
  const counts = async () => {
    const rows = await sql<{ n: number }[]>`
      select count::integer as n from bullmq.ringback_producers where seen_at > now() - interval '1 day' order by 1`
    return rows.map(({ n }) => n)
  }
  expect(await producer.detectLoss()).toBeUndefined()
  expect(await sql`select from bullmq.ringback_producers`).toHaveLength(2)
  expect(await counts()).toEqual([1, 20])
  await sql`update bullmq.ringback_producers set seen_at = now() - interval '25 hours'`
  expect(await producer.detectLoss()).toBeUndefined()
  expect(await counts()).toEqual([2])
  await producer.close()
})

test('the alert of lost data tells of the newest loss, and counts all', async () => {
  await using database = await freshDatabase()
  await database.sql`
    insert into queue_losses
    values (now() - interval '2 minutes', 'w', 'first'), (now(), 'w', 'last'), (now() - interval '1 minute', 'w', 'second')`
  await openAlerts(database)
  expect(await database.sql`select occurrences::integer as n, split_part(text, ': ', 2) as loss from alerts`).toEqual([
    { n: 3, loss: 'last' },
  ])
})

test('the alert of lost data is open for an hour, even if the clock of ingest is ahead', async () => {
  await using database = await freshDatabase()
  const tomorrow = Date.now() + 86_400_000
  const canary = { ingest: 'a:1', host: 'a', startedAt: 0, sentAt: tomorrow, lost: 'the server lost 3 writes' }
  const data = storeJob([{ kind: 'canary', json: JSON.stringify(canary) }])
  await storeOneByOne(database)({ id: `group-${randomUUIDv7()}`, data })
  expect(await database.sql`select from queue_losses where detected_at > now()`).toHaveLength(0)
  expect(await openAlerts(database)).toEqual(['queue_data_lost:'])
  const [row] = await database.sql<{ text: string }[]>`select text from alerts where kind = 'queue_data_lost'`
  expect(row!.text).toContain('the server lost 3 writes')
  await database.sql`update queue_losses set detected_at = now() - interval '61 minutes'`
  expect(await openAlerts(database)).toEqual([])
})
