import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { aCallback, eventually, freshDatabase, postCallbacks, startIngest, startWorker } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

/** What a person would call it, and what the proxy does. */
const FAULTS = [
  ['away', 'cut'],
  ['frozen', 'freeze'],
] as const

/** A second, and what a busy machine adds to it. */
const DEADLINE_MS = 1500

test.each(FAULTS)(
  'while the queue is %s, requests are refused in time, and nothing acknowledged is lost',
  async (_state, fault) => {
    await using database = await freshDatabase()
    await using way = await proxyTo(database.queue.url)
    await using ingest = await startIngest(database, { queue: { ...database.queue, url: way.url } })
    const accepted = new Set<number>()
    let next = 0
    const sendOne = async () => {
      const id = (next += 1)
      const startedAt = performance.now()
      const response = await postCallbacks(ingest, aCallback(id))
      expect(performance.now() - startedAt).toBeLessThan(DEADLINE_MS)
      expect([200, 503]).toContain(response.status)
      if (response.status === 200) accepted.add(id)
      else expect(response.headers.get('retry-after')).toBe('5')
      return response.status
    }
    await eventually(async () => expect(await sendOne()).toBe(200))
    await Promise.all(Array.from({ length: 50 }, sendOne))

    await way[fault]()
    await eventually(async () => expect(await sendOne()).toBe(503))
    expect(new Set(await Promise.all(Array.from({ length: 50 }, sendOne)))).toEqual(new Set([503]))
    expect(await ingest.ready()).toBe(false)

    await way.restore()
    await eventually(async () => expect(await sendOne()).toBe(200))
    expect(await ingest.ready()).toBe(true)

    await using _worker = await startWorker(database)
    await eventually(async () => {
      const stored = await database.sql<{ id: number }[]>`select callback_id::integer as id from events`
      expect([...accepted].filter((id) => !stored.some((event) => event.id === id))).toEqual([])
    })
  },
)

test('an ingest without a spool waits for a queue that stands still for half a second', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using ingest = await startIngest(database, { queue: { ...database.queue, url: way.url } })
  await eventually(async () => expect((await postCallbacks(ingest, aCallback(1))).status).toBe(200))
  way.freeze()
  const answers = [2, 3, 4].map((id) => postCallbacks(ingest, aCallback(id)))
  await sleep(500)
  await way.restore()
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200])
})

test('an ingest that starts while the queue is down answers 503, and accepts when the queue is there', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await way.cut()
  await using ingest = await startIngest(database, { queue: { ...database.queue, url: way.url } })
  expect((await postCallbacks(ingest, aCallback(1))).status).toBe(503)
  await way.restore()
  await eventually(async () => expect((await postCallbacks(ingest, aCallback(1))).status).toBe(200))
})

test.each(FAULTS)(
  'while Postgres is %s, the worker waits with what it has, and goes on by itself',
  async (_state, fault) => {
    await using database = await freshDatabase()
    await using way = await proxyTo(database.url)
    await using ingest = await startIngest(database)
    await using worker = await startWorker(database, { databaseUrl: way.url })
    await postCallbacks(ingest, aCallback(1))
    await eventually(async () => expect(await database.sql`select from events`).toHaveLength(1))

    await way[fault]()
    for (let id = 2; id <= 50; id++) expect((await postCallbacks(ingest, aCallback(id))).status).toBe(200)
    await way.restore()
    await eventually(async () => expect(await database.sql`select from events`).toHaveLength(50))
    expect(await database.sql`select from events where duplicates > 0`).toHaveLength(0)
    expect(await worker.ready()).toBe(true)
  },
)

test('the consumers go on by themselves when the queue comes back', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database, { queue: { ...database.queue, url: way.url } })
  await postCallbacks(ingest, aCallback(1))
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(1))
  await way.cut()
  for (let id = 2; id <= 20; id++) await postCallbacks(ingest, aCallback(id))
  await way.restore()
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(20))
})
