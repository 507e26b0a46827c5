import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { code } from '@ringback/core/handlers'
import { configFileWith, ingestPort, runApp } from './support/processes.ts'
import type { RunningProcess } from './support/processes.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  postCallbacks,
  startIngest,
  startWorker,
  ownRedis,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'
import type { TcpProxy } from './support/tcp-proxy.ts'

/** The deadline of a process that ends, below what compose gives a container. */
const DEADLINE_MS = 15_000

interface Surroundings extends AsyncDisposable {
  /** Of processes that reach Postgres and Redis by way of proxies. */
  environment: Record<string, string>
  ways: TcpProxy[]
}

/** Declare it behind the database: Postgres waits with dropping one for every connection that is frozen while it begins. */
async function surroundingsOf(database: Database): Promise<Surroundings> {
  await using stack = new AsyncDisposableStack()
  const postgres = stack.use(await proxyTo(database.url))
  const ways = [postgres]
  const environment: Record<string, string> = { DATABASE_URL: postgres.url }
  if (inject('queue') === 'redis') {
    const redis = stack.use(await proxyTo(await ownRedis()))
    ways.push(redis)
    environment.REDIS_URL = redis.url
  }
  const kept = stack.move()
  return { environment, ways, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

/** Ends a process as an orchestrator does, and checks that it takes no longer than it may. */
async function terminate({ child, ended, output }: RunningProcess): Promise<void> {
  const startedAt = performance.now()
  child.kill('SIGTERM')
  expect(await ended, output().slice(-3000)).toBe(0)
  expect(performance.now() - startedAt).toBeLessThan(DEADLINE_MS)
}

describe('SIGTERM to an ingest', () => {
  test('lets load balancers see it: not ready on both ports, and everything accepted until the delay is over', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment } = surroundings
    await using ingest = runApp('ingest', { ...environment, PORT: '0', SHUTDOWN_DELAY_MS: '3000' })
    const port = await ingestPort(ingest)
    const [, opsPort] = await ingest.prints(/"port":(\d+),"msg":"operators\.listening"/)
    const ready = async () =>
      Promise.all([port, opsPort].map(async (own) => (await fetch(`http://127.0.0.1:${own}/readyz`)).status))
    await eventually(async () => expect(await ready()).toEqual([200, 200]))
    ingest.child.kill('SIGTERM')
    await eventually(async () => expect(await ready()).toEqual([503, 503]), 1000)
    const response = await postCallbacks({ port }, aCallback(1))
    expect(response.status).toBe(200)
    expect(response.headers.get('connection')).toBe('close')
    expect(await ingest.ended).toBe(0)
    await expect(postCallbacks({ port }, aCallback(2))).rejects.toThrow('fetch failed')
  })

  test('ends it in time while the servers are frozen and a client sends its body byte by byte', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment, ways } = surroundings
    await using ingest = runApp('ingest', { ...environment, PORT: '0', SHUTDOWN_DELAY_MS: '5000' })
    const port = await ingestPort(ingest)
    await eventually(async () => expect((await postCallbacks({ port }, aCallback(1))).status).toBe(200))
    const slow = connect(port, '127.0.0.1').on('error', () => {}) // it is cut off
    slow.write('POST /callbacks/voximplant HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n')
    const dripping = setInterval(() => slow.write('a'), 1000)
    onTestFinished(() => clearInterval(dripping))
    for (const way of ways) way.freeze()
    await eventually(async () => expect((await postCallbacks({ port }, aCallback(2))).status).toBe(503))
    await terminate(ingest)
  })

  test('a second time, a second later, ends it at once', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment } = surroundings
    await using ingest = runApp('ingest', { ...environment, PORT: '0', SHUTDOWN_DELAY_MS: '60000' })
    const port = await ingestPort(ingest)
    ingest.child.kill('SIGTERM')
    await eventually(async () => expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(503))
    await eventually(async () => {
      ingest.child.kill('SIGTERM')
      expect(ingest.child.exitCode).toBe(1)
    })
  })

  test('is one request with the signals that come with it, from a terminal, npm or a supervisor', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    await using ingest = runApp('ingest', { ...surroundings.environment, PORT: '0', SHUTDOWN_DELAY_MS: '1500' })
    await ingestPort(ingest)
    for (const signal of ['SIGHUP', 'SIGTERM', 'SIGINT'] as const) ingest.child.kill(signal)
    expect(await ingest.ended).toBe(0)
  })
})

describe('SIGTERM before a process has started', () => {
  test('ends a worker with 0 while its servers are down', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment, ways } = surroundings
    for (const way of ways) await way.cut()
    await using worker = runApp('worker', environment)
    await worker.prints(/worker\.waiting/)
    await terminate(worker)
  })

  test('ends worker and ingest with 0 while their servers say nothing', async () => {
    const connections: Socket[] = []
    const silent = createServer((socket) => connections.push(socket.on('error', () => {})))
    silent.listen(0, '127.0.0.1')
    onTestFinished(() => void silent.close())
    await once(silent, 'listening')
    const host = `127.0.0.1:${(silent.address() as AddressInfo).port}`
    const environment = { DATABASE_URL: `postgres://a:b@${host}/c`, REDIS_URL: `redis://${host}` }
    await using worker = runApp('worker', environment)
    await eventually(async () => expect(connections).not.toHaveLength(0))
    await terminate(worker)
    await using ingest = runApp('ingest', { ...environment, PORT: '0' })
    await ingestPort(ingest)
    await terminate(ingest)
    for (const socket of connections) socket.destroy()
  })

  test('ends a worker with 0 while it waits for its migrations', async () => {
    await using database = await freshDatabase()
    await database.sql`drop table ringback_migrations`
    await using surroundings = await surroundingsOf(database)
    const { environment } = surroundings
    await using worker = runApp('worker', environment)
    await worker.prints(/worker\.waiting/)
    await terminate(worker)
  })
})

describe('SIGTERM to a worker', () => {
  test.each(['cut', 'freeze'] as const)('ends it in time with 0 while its servers are down (%s)', async (fault) => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment, ways } = surroundings
    await using ingest = runApp('ingest', { ...environment, PORT: '0' })
    const port = await ingestPort(ingest)
    await using worker = runApp('worker', environment)
    await worker.prints(/worker\.started/)
    await eventually(async () => expect((await postCallbacks({ port }, aCallback(1))).status).toBe(200))
    await worker.prints(/groups\.stored/)
    for (const way of ways) await way[fault]()
    await terminate(worker)
  })

  test('leaves attempts that take too long to their leases, says so, and records those that are over', async () => {
    await using database = await freshDatabase()
    await using surroundings = await surroundingsOf(database)
    const { environment } = surroundings
    await using config = await configFileWith(`[
      { name: 'uneven', run: code(({ callbackId }) => sleep(callbackId === '1' ? 55_000 : 500), { timeoutMs: 60_000 }) },
    ]`)
    await using ingest = runApp('ingest', { ...environment, RINGBACK_CONFIG: config.path, PORT: '0' })
    const port = await ingestPort(ingest)
    await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: config.path })
    await worker.prints(/worker\.started/)
    // One job: its deliveries are begun together, and would be recorded together.
    const callbacks = [1, 2, 3].map((id) => aCallback(id))
    await eventually(async () => expect((await postCallbacks({ port }, ...callbacks)).status).toBe(200))
    await eventually(async () => expect(await database.sql`select from attempts`).toHaveLength(3))
    await terminate(worker)
    expect(worker.output()).toMatch(/"count":1,"msg":"attempts\.left"/)
    const deliveries = await database.sql`
      select e.callback_id as id, d.status, d.lease_until > now() as "isLeased"
      from deliveries as d join events as e on e.id = d.event_id order by 1`
    expect(deliveries).toEqual([
      { id: '1', status: 'pending', isLeased: true },
      { id: '2', status: 'succeeded', isLeased: null },
      { id: '3', status: 'succeeded', isLeased: null },
    ])
  })
})

test('a worker that ends hands back what it has not begun: another runs it at once, and nothing runs twice', async () => {
  await using database = await freshDatabase()
  const runs: number[] = []
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  const handler = (index: number) => ({
    name: 'slow',
    on: {},
    // More than one batch of a job, of which none is over when the worker ends.
    run: code(async ({ callbackId }) => {
      runs.push(Number(callbackId))
      if (index === 0) await released
    }),
  })
  const configs = [0, 1].map((index) => configWith({ handlers: [handler(index)] }))
  await using ingest = await startIngest(database, { config: configs[0]! })
  const first = await startWorker(database, { config: configs[0]! })
  const ids = Array.from({ length: 120 }, (_, index) => index + 1)
  expect((await postCallbacks(ingest, ...ids.map((id) => aCallback(id)))).status).toBe(200)
  await eventually(async () => expect(runs).toHaveLength(100))

  const closing = first.close()
  await using _second = await startWorker(database, { config: configs[1]! })
  // Well before the leases of what was enqueued run out, and while the first is still waiting for its handlers.
  await eventually(async () => expect(new Set(runs)).toEqual(new Set(ids)), 8000)
  release()
  await closing
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(ids.length),
  )
  expect(runs).toHaveLength(ids.length)
  expect(await database.sql`select from attempts`).toHaveLength(ids.length)
})
