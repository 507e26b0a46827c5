import { queueServer } from '@ringback/core/queue'
import { expect, inject, test } from 'vitest'
import { configFileWith, ingestPort, runApp } from './support/processes.ts'
import type { RunningProcess } from './support/processes.ts'
import { aCallback, eventually, freshDatabase, postCallbacks, startWorker, environmentFor } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { openStoreQueue } from './support/store-queue.ts'
import { proxyTo } from './support/tcp-proxy.ts'

/** In production this is a minute. Longer than the worker pauses before it tries again to store a group. */
const STUCK_AFTER_SECONDS = '10'

async function startIngestProcess(environment: Record<string, string>) {
  const app = runApp('ingest', { ...environment, PORT: '0' })
  const port = await ingestPort(app)
  return { port, [Symbol.asyncDispose]: () => app[Symbol.asyncDispose]() }
}

const stored = ({ sql }: Database, count: number) =>
  eventually(async () => expect(await sql`select from events`).toHaveLength(count))

async function accepts(ingest: { port: number }, ...ids: number[]): Promise<void> {
  for (const id of ids) expect((await postCallbacks(ingest, aCallback(id))).status).toBe(200)
}

/** Resolves when the worker has lived on for so long that one which asked no server would have ended. */
async function livesOn({ child, output }: RunningProcess): Promise<void> {
  const until = performance.now() + 2.7 * Number(STUCK_AFTER_SECONDS) * 1000
  await eventually(async () => {
    if (child.exitCode !== null) return
    expect(performance.now()).toBeGreaterThan(until)
  }, 40_000)
  expect(output()).not.toContain('worker.stuck')
  expect(child.exitCode).toBeNull()
}

/** What only a consumer sends: its name to Postgres, the blocking read and the search for stalled jobs to Redis. */
const CONSUMER = /consumer|bzpopmin|:stalled/i

test('a worker whose consumers were cut off, while both servers answer, ends with an error', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  const way = inject('queue') === 'redis' ? 'REDIS_URL' : 'DATABASE_URL'
  await using proxy = await proxyTo(environment[way]!, { tag: CONSUMER })
  await using ingest = await startIngestProcess(environment)
  await using worker = runApp('worker', { ...environment, [way]: proxy.url, STUCK_AFTER_SECONDS })
  await worker.prints(/worker\.started/)
  await accepts(ingest, 1)
  await stored(database, 1)

  proxy.freezeTagged()
  await accepts(ingest, 2, 3)
  expect(await worker.ended).toBe(1)
  expect(worker.output()).toMatch(/"level":60,.*"queue":"store",.*"msg":"worker\.stuck"/)

  // What it left is taken up by the one that its supervisor starts.
  await using _next = runApp('worker', environment)
  await stored(database, 3)
})

test('a worker that waits for a frozen Postgres waits, and goes on when it is back', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using proxy = await proxyTo(environment.DATABASE_URL!)
  await using ingest = await startIngestProcess(environment)
  await using worker = runApp('worker', { ...environment, DATABASE_URL: proxy.url, STUCK_AFTER_SECONDS })
  await worker.prints(/worker\.started/)
  await accepts(ingest, 1)
  await stored(database, 1)

  proxy.freeze()
  // More than it can have in its hands.
  await accepts(ingest, ...Array.from({ length: 20 }, (_, index) => index + 2))
  await livesOn(worker)
  await proxy.restore()
  await stored(database, 21)
  expect(worker.child.exitCode).toBeNull()
})

test('a worker whose queue somebody has paused waits, and goes on when it is resumed', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using ingest = await startIngestProcess(environment)
  await using worker = runApp('worker', { ...environment, STUCK_AFTER_SECONDS })
  await worker.prints(/worker\.started/)
  const queue = openStoreQueue(queueServer({ ...environment, STORE_SHARDS: 1, REDIS_WAIT_REPLICAS: 0 }))
  await using _closing = { [Symbol.asyncDispose]: () => queue.close() }
  await queue.pause()
  await accepts(ingest, 1, 2)
  await livesOn(worker)
  await queue.resume()
  await stored(database, 2)
})

test('a worker whose hands are full with handlers that take long, but no longer than they may, is not stuck', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using file = await configFileWith(`Array.from({ length: 17 }, (_, index) => ({
    name: 'slow-' + index, run: code(() => sleep(13_000), { timeoutMs: 30_000 }),
  }))`)
  await using ingest = await startIngestProcess(environment)
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path, STUCK_AFTER_SECONDS })
  await worker.prints(/worker\.started/)
  // Each in a round of its own, and so with jobs of its own: 85 of them, of which it takes 64.
  for (let id = 1; id <= 5; id++) {
    await accepts(ingest, id)
    await stored(database, id)
  }
  await eventually(async () => expect(await database.sql`select from attempts where outcome is null`).toHaveLength(64))
  await eventually(async () => {
    const done = await database.sql`select from deliveries where status = 'succeeded'`
    expect(worker.child.exitCode ?? done.length).toBe(85)
  }, 50_000)
  expect(worker.output()).not.toContain('worker.stuck')
})

test('/readyz of a worker answers in time, and says no, while Postgres is frozen', async () => {
  await using database = await freshDatabase()
  await using proxy = await proxyTo(database.url)
  const environment = { ...(await environmentFor(database)), DATABASE_URL: proxy.url }
  await using worker = runApp('worker', environment)
  const port = Number((await worker.prints(/"port":(\d+),"msg":"operators\.listening"/))[1])
  const ask = async () => {
    const startedAt = performance.now()
    const { status } = await fetch(`http://127.0.0.1:${port}/readyz`)
    expect(performance.now() - startedAt).toBeLessThan(4000)
    return status
  }
  await eventually(async () => expect(await ask()).toBe(200))
  proxy.freeze()
  expect(await Promise.all([ask(), ask(), ask()])).toEqual([503, 503, 503])
  expect(await ask()).toBe(503)
  await proxy.restore()
  await eventually(async () => expect(await ask()).toBe(200))
})

test('a worker that waits for its migrations is live, and ready once they are there', async () => {
  await using database = await freshDatabase()
  await database.sql`alter table ringback_migrations rename to none_yet`
  await using worker = runApp('worker', await environmentFor(database))
  await worker.prints(/worker\.waiting/)
  const port = (await worker.prints(/"port":(\d+),"msg":"operators\.listening"/))[1]
  const ask = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).status
  expect([await ask('/livez'), await ask('/readyz')]).toEqual([200, 503])
  await database.sql`alter table none_yet rename to ringback_migrations`
  await eventually(async () => expect(await ask('/readyz')).toBe(200))
})

test('a worker is not ready while the queue is frozen', async () => {
  await using database = await freshDatabase()
  await using proxy = await proxyTo(database.queue.url)
  await using worker = await startWorker(database, { queue: { ...database.queue, url: proxy.url } })
  expect(await worker.ready()).toBe(true)
  proxy.freeze()
  expect(await worker.ready()).toBe(false)
  await proxy.restore()
  await eventually(async () => expect(await worker.ready()).toBe(true))
})
