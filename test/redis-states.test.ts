import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { code } from '@ringback/core/handlers'
import type { HandledEvent } from '@ringback/core/handlers'
import { createConsumer, createProducer, PostponedError, unsafeQueueSettings } from '@ringback/core/queue'
import type { QueueJob, QueueServer } from '@ringback/core/queue'
import { createLogger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import { expect, test } from 'vitest'
import { expectStored, startLoad, storesMore } from './support/load.ts'
import { startRedis, WITHOUT_AUTH } from './support/redis-servers.ts'
import type { OwnRedis } from './support/redis-servers.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  keptLog,
  log,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import { openStoreQueue } from './support/store-queue.ts'
import { proxyTo } from './support/tcp-proxy.ts'

const on = ({ url }: { url: string }): QueueServer & { kind: 'redis' } => ({ kind: 'redis', url, prefix: '{ringback}' })

async function consume(queue: QueueServer, process: (job: QueueJob) => Promise<void>): Promise<AsyncDisposable> {
  const { signal: stopping } = new AbortController()
  const consumer = await createConsumer(queue, 'store', { concurrency: 1, log, stopping }, process)
  return { [Symbol.asyncDispose]: consumer.close }
}

/** A state that Redis may be in for a while, and how it comes into it and out of it. */
const STATES: [string, (redis: OwnRedis) => Promise<unknown>, (redis: OwnRedis) => Promise<unknown>][] = [
  [
    'a read-only replica',
    async ({ client }) => {
      await client.config('SET', 'replica-serve-stale-data', 'yes')
      await client.replicaof('127.0.0.1', 1)
    },
    ({ client }) => client.replicaof('NO', 'ONE'),
  ],
  [
    'full',
    ({ client }) => client.config('SET', 'maxmemory', '1mb'),
    ({ client }) => client.config('SET', 'maxmemory', '0'),
  ],
  [
    'without a command that it needs',
    ({ client }) => client.call('ACL', 'SETUSER', 'default', '-evalsha', '-eval'),
    ({ client }) => client.call('ACL', 'SETUSER', 'default', '+evalsha', '+eval'),
  ],
  ['frozen', async (redis) => redis.kill('SIGSTOP'), async (redis) => redis.kill('SIGCONT')],
  ['gone', (redis) => redis.stop(), (redis) => redis.restart()],
]

test.each(STATES)(
  'while Redis is %s nothing is accepted; afterwards ingest and worker go on, and nothing is lost',
  async (_state, enter, leave) => {
    await using redis = await startRedis()
    await using database = { ...(await freshDatabase()), queue: on(redis) }
    await using ingest = await startIngest(database)
    await using _worker = await startWorker(database)
    const load = startLoad(ingest.port)
    await storesMore(database, load, 100)
    await enter(redis)
    const { refused } = load
    const before = refused()
    await eventually(async () => expect(refused()).toBeGreaterThan(before + 100))
    await leave(redis)
    await storesMore(database, load, 100)
    await load.end()
    await expectStored(database, load)
  },
)

test.each(STATES)(
  'while Redis is %s retries go on and alerts reach people, whatever takes long, and a worker that ends finishes them',
  async (_state, enter) => {
    await using redis = await startRedis()
    await using database = { ...(await freshDatabase()), queue: on(redis) }
    let isDown = true
    const slow = Promise.withResolvers<void>()
    const told: string[] = []
    const fail = () => {
      if (isDown) throw new Error('down')
    }
    const failThenTakeLong = (_event: HandledEvent, { attempt }: { attempt: number }) => {
      if (attempt === 1) throw new Error('not yet')
      return slow.promise
    }
    const config = configWith({
      handlers: [
        // Due again when Redis has gone: retries are what is looked at here.
        { name: 'slow', run: code(failThenTakeLong, { timeoutMs: 60_000 }), retry: { delaysMs: [2000] } },
        { name: 'crm', run: code(fail), retry: { delaysMs: [2000, 100], maxAttempts: 100 } },
        { name: 'tell', on: { source: 'ringback' }, run: code(({ type }) => void told.push(type)) },
      ],
    })
    await using ingest = await startIngest(database, { config })
    {
      await using _worker = await startWorker(database, { config, monitoringIntervalMs: 100 })
      await postCallbacks(ingest, aCallback(1))
      await eventually(async () =>
        expect(await database.sql`select from attempts where outcome = 'failed'`).toHaveLength(2),
      )
      await enter(redis)
      await eventually(async () => expect(told).toEqual(['alert.raised']))
      isDown = false
      await eventually(async () => expect(told).toEqual(['alert.raised', 'alert.resolved']))
      expect(await database.sql`select handler from deliveries where status = 'pending' and handler <> 'tell'`).toEqual(
        [{ handler: 'slow' }],
      )
      setTimeout(slow.resolve, 500) // when the worker is ending
    }
    const ended = await database.sql`select handler from deliveries where status = 'succeeded' order by handler`
    expect(ended.map(({ handler }) => String(handler))).toEqual(['crm', 'slow', 'tell', 'tell'])
  },
)

test('a Redis that comes back empty is told of, and ingest and worker go on', async () => {
  await using redis = await startRedis()
  await using database = { ...(await freshDatabase()), queue: on(redis) }
  const producer = createProducer(database.queue, 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const load = startLoad(ingest.port)
  await storesMore(database, load, 100)
  expect(await producer.detectLoss()).toBe(undefined)
  expect(await producer.detectLoss()).toBe(undefined)
  const identity = await producer.identity()
  const counters = await redis.client.keys('*:alive:*')
  expect(counters.length).toBeGreaterThan(0)
  for (const counter of counters) {
    expect(await redis.client.ttl(counter), 'kept for a day after its process').toBeGreaterThan(86_000)
  }

  await redis.restart()
  expect(await eventually(() => producer.detectLoss())).toBe(undefined)
  expect(await producer.identity()).toBe(identity)

  await redis.restart({ empty: true })
  expect(await eventually(() => producer.detectLoss())).toMatch(/^Redis has lost writes/)
  expect(await producer.detectLoss()).toBe(undefined)
  expect(await producer.identity()).not.toBe(identity)
  await storesMore(database, load, 100)
  await load.end()
})

test('a Redis behind the same name is another one: it is told of, and ingest and worker go on', async () => {
  await using first = await startRedis()
  await using second = await startRedis()
  await using way = await proxyTo(first.url)
  await using database = { ...(await freshDatabase()), queue: on(way) }
  const producer = createProducer(database.queue, 'store', { timeoutMs: 500, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const load = startLoad(ingest.port)
  await storesMore(database, load, 100)
  await producer.detectLoss()
  const identity = await producer.identity()
  await way.cut()
  way.lead(second.url)
  await way.restore()
  expect(await eventually(() => producer.detectLoss())).toMatch(/^Redis has lost writes/)
  expect(await producer.identity()).not.toBe(identity)
  await storesMore(database, load, 100)
  await load.end()
})

test('what one shard has lost is told of, though another does not answer', async () => {
  await using redis = await startRedis()
  const producer = createProducer({ ...on(redis), storeShards: 2 }, 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await producer.detectLoss()
  const [lossy, broken] = await redis.client.keys('*:alive:*')
  // A day after its process has gone a count is no longer kept.
  for (const count of [lossy!, broken!]) expect(await redis.client.pttl(count)).toBeGreaterThan(23 * 3_600_000)
  await redis.client.set(lossy!, 0)
  await redis.client.del(broken!)
  await redis.client.rpush(broken!, 'no count')
  const ask = () => producer.detectLoss().catch(() => undefined)
  const answers = [await ask(), await ask()]
  expect(answers.filter((answer) => answer !== undefined)).toEqual([expect.stringMatching(/^Redis has lost writes/)])
  await expect(producer.detectLoss()).rejects.toThrow('WRONGTYPE')
})

test('a Redis that is nearly full refuses what is new, while a worker can still empty it', async () => {
  await using redis = await startRedis()
  await using database = { ...(await freshDatabase()), queue: on(redis) }
  const producer = createProducer(database.queue, 'deliveries', { timeoutMs: 500, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await redis.client.set('ballast', Buffer.alloc(30e6))
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.client.info('memory'))![1])
  expect(await producer.memoryUsage()).toBeLessThan(0.7)
  let next = 0
  await eventually(async () => {
    await redis.client.config('SET', 'maxmemory', String(Math.round((await used()) / 0.93)))
    await expect(producer.add(`job-${(next += 1)}`, {})).rejects.toThrow('nearly full')
  })
  await expect(producer.probe()).rejects.toThrow('nearly full')
  expect(await producer.memoryUsage()).toBeGreaterThan(0.9)
  const fresh = createProducer(database.queue, 'store', { timeoutMs: 500, log })
  await using _closingFresh = { [Symbol.asyncDispose]: fresh.close }
  expect(await fresh.memoryUsage()).toBeGreaterThan(0.9)
  // What a worker does: a script that writes.
  expect(await redis.client.eval('return redis.call("lpush", "left", "1")', 1, 'left')).toBe(1)
  expect(await unsafeQueueSettings(database.queue)).toContainEqual(expect.stringContaining('of maxmemory is used'))

  await redis.client.config('SET', 'maxmemory', String((await used()) * 4))
  await eventually(() => producer.probe())
  expect(await producer.memoryUsage()).toBeLessThan(0.7)
})

test('how full Redis is can be seen at ingest, also while no worker runs', async () => {
  await using redis = await startRedis()
  await using database = { ...(await freshDatabase()), queue: on(redis) }
  const registry = createRegistry()
  await using _ingest = await startIngest(database, { registry })
  const ratio = async () =>
    /^ringback_queue_memory_usage_ratio (.+)$/m
      .exec(await registry.metrics())
      ?.slice(1)
      .map(Number)
  await eventually(async () => expect(await ratio()).toEqual([0]))
  await redis.client.set('ballast', Buffer.alloc(30e6))
  await redis.client.config('SET', 'maxmemory', '100mb')
  await eventually(async () => expect(await ratio()).toEqual([expect.closeTo(0.3, 1)]))
  await redis.stop()
  await eventually(async () => expect(await ratio()).toBeUndefined())
})

test('a database that Redis does not have is not used, and no other in its place', async () => {
  await using redis = await startRedis()
  const other = on(redis)
  const another = createProducer(other, 'store', { timeoutMs: 500, log })
  await another.add('of another installation', {})
  await another.close()
  const keys = (await redis.client.keys('*')).length

  const queue = on({ url: `${redis.url}/99` })
  const producer = createProducer(queue, 'store', { timeoutMs: 500, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  const taken: string[] = []
  await using _consumer = await consume(queue, async ({ id }) => void taken.push(id))
  for (let time = 0; time < 5; time++) {
    await expect(producer.add(`job-${time}`, {})).rejects.toThrow()
    await sleep(300)
  }
  expect(taken).toEqual([])
  expect(await redis.client.keys('*')).toHaveLength(keys)
})

test.each(['events', 'wait', 'marker'])(
  'a job that Redis took only half of, because of a key %s of the wrong type, can be added again',
  async (key) => {
    await using redis = await startRedis()
    const producer = createProducer(on(redis), 'store', { timeoutMs: 2000, log })
    await using _closing = { [Symbol.asyncDispose]: producer.close }
    await producer.add('before', {})
    await redis.client.rename(`{ringback}:store:${key}`, 'kept')
    await redis.client.set(`{ringback}:store:${key}`, 'a text')
    await expect(producer.add('half', { number: 1 })).rejects.toThrow('WRONGTYPE')
    await redis.client.rename('kept', `{ringback}:store:${key}`)
    await producer.add('half', { number: 1 })
    expect(await redis.client.lrange('{ringback}:store:wait', 0, -1)).toEqual(['half', 'before'])
    expect(await redis.client.hget('{ringback}:store:half', 'data')).toBe('{"number":1}')
  },
)

test('a job that waits stays whole where adding it failed, and the user may not look for it', async () => {
  await using redis = await startRedis()
  const producer = createProducer(on(redis), 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await producer.add('before', {})
  // The last command of an add, and what looks for a job.
  await redis.client.call('ACL', 'SETUSER', 'default', '-zadd', '-lpos')
  await expect(producer.add('whole', { number: 1 })).rejects.toThrow("can't run this command")
  expect(await redis.client.lrange('{ringback}:store:wait', 0, -1)).toEqual(['whole', 'before'])
  expect(await redis.client.hget('{ringback}:store:whole', 'data')).toBe('{"number":1}')
})

test('a job that a worker has in hand stays whole, though Redis fails when it is added again', async () => {
  await using redis = await startRedis()
  const producer = createProducer(on(redis), 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  const taken = Promise.withResolvers<void>()
  const end = Promise.withResolvers<void>()
  await using _consumer = await consume(on(redis), () => (taken.resolve(), end.promise))
  await producer.add('job', { number: 1 })
  await taken.promise
  await redis.client.rename('{ringback}:store:events', 'kept')
  await redis.client.set('{ringback}:store:events', 'a text')
  await expect(producer.add('job', { number: 1 })).rejects.toThrow('WRONGTYPE')
  expect(await redis.client.hget('{ringback}:store:job', 'data')).toBe('{"number":1}')
  await redis.client.rename('kept', '{ringback}:store:events')
  end.resolve()
})

test('a Redis that refuses is asked a few times a second, not thousands of times', async () => {
  await using redis = await startRedis()
  await using _consumer = await consume(on(redis), async () => {})
  const refusals = async () => {
    const stats = await redis.client.info('commandstats')
    return [...stats.matchAll(/cmdstat_eval(?:sha)?:.*rejected_calls=(\d+)/g)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    )
  }
  await redis.client.call('ACL', 'SETUSER', 'default', '-evalsha', '-eval')
  await eventually(async () => expect(await refusals()).toBeGreaterThan(0))
  const before = await refusals()
  await sleep(1000)
  expect((await refusals()) - before).toBeLessThan(50)
})

test('with fewer replicas than are asked for, nothing is accepted', async () => {
  await using redis = await startRedis()
  await using replica = await startRedis(['--replicaof', '127.0.0.1', String(redis.port)])
  const queue = { ...on(redis), waitReplicas: 1 }
  const producer = createProducer(queue, 'store', { timeoutMs: 500, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await eventually(() => producer.add('with-replica', {}))
  await replica.stop()
  await expect(producer.add('without-replica', {})).rejects.toThrow('0 of 1 replicas')
  await expect(producer.probe()).rejects.toThrow('0 of 1 replicas')
  // A count that no replica has would be taken for lost writes after a failover that has lost none.
  await expect(producer.detectLoss()).rejects.toThrow('0 of 1 replicas')
})

test('with fewer shards than before, what waits in the others is stored all the same', async () => {
  await using redis = await startRedis()
  await using database = { ...(await freshDatabase()), queue: { ...on(redis), storeShards: 5 } }
  await using ingest = await startIngest(database)
  const load = startLoad(ingest.port)
  await eventually(async () => expect(load.accepted.size).toBeGreaterThan(100))
  await load.end()
  expect((await redis.client.keys('{ringback_*}:store:wait')).length).toBe(4)
  // What a worker that was killed had in hand, and what was postponed.
  await redis.client.rename('{ringback_3}:store:wait', '{ringback_3}:store:active')
  const postponed = await redis.client.lrange('{ringback_4}:store:wait', 0, -1)
  await redis.client.del('{ringback_4}:store:wait')
  await redis.client.zadd('{ringback_4}:store:delayed', ...postponed.flatMap((id) => [0, id]))
  await using _worker = await startWorker(database, { queue: on(redis) })
  await expectStored(database, load)
})

test('what is left in a queue that is moved is found as docs/operations.md says, also what was postponed', async () => {
  await using redis = await startRedis()
  const queue = { ...on(redis), storeShards: 2 }
  const page = readFileSync(new URL('../docs/operations.md', import.meta.url), 'utf8')
  const [, pattern] = /redis-cli --scan --pattern '(.+?)'/.exec(page)!
  const left = () => redis.client.keys(pattern!)
  const producer = createProducer(queue, 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  for (const id of ['group-0', 'group-1', 'group-2', 'group-3']) await producer.add(id, {})
  expect(await left()).toHaveLength(4)
  const postponed = ['group-0', 'group-1']
  const process = async ({ id }: QueueJob) => {
    if (postponed.includes(id)) throw new PostponedError('others take their turn', 60_000)
  }
  const rounds = { intervalMs: 0, processRound: (jobs: QueueJob[]) => jobs.map(process) }
  const { signal: stopping } = new AbortController()
  const consumer = await createConsumer(queue, 'store', { concurrency: 2, log, stopping }, rounds)
  await using _consuming = { [Symbol.asyncDispose]: consumer.close }
  await eventually(async () => expect(await producer.state()).toMatchObject({ waiting: 0, active: 0 }))
  expect((await left()).map((key) => key.replace(/.*:/, '')).toSorted()).toEqual(postponed)
})

test('a shard that takes nothing is left out until it does again, and nothing is accepted where none takes anything', async () => {
  await using redis = await startRedis()
  const queue = { ...on(redis), storeShards: 2 }
  const producer = createProducer(queue, 'store', { timeoutMs: 1000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  const waiting = (prefix: string) => redis.client.llen(`${prefix}:store:wait`)
  let added = 0
  const add = async (count: number) => {
    for (const last = added + count; added < last; added++) await producer.add(`group-${added}`, {})
  }
  await add(10)
  expect([await waiting('{ringback}'), await waiting('{ringback_1}')]).toEqual([5, 5])
  const mayUse = (pattern: string) => redis.client.call('ACL', 'SETUSER', 'default', 'resetkeys', pattern)
  const refusals = async () => Number(/NOPERM:count=(\d+)/.exec(await redis.client.info('errorstats'))![1])

  await mayUse('~none')
  await expect(producer.add('group-refused', {})).rejects.toThrow('NOPERM')
  await expect(producer.probe()).rejects.toThrow('NOPERM')
  await mayUse('~*')
  // Twice: in between it answers for so long that nobody looks after it any more.
  for (const time of ['first', 'second']) {
    await eventually(async () => {
      const before = await waiting('{ringback_1}')
      await add(2)
      expect(await waiting('{ringback_1}'), time).toBeGreaterThan(before)
    })
    await sleep(1100)
    await mayUse('~{ringback}:*')
    await redis.client.config('RESETSTAT')
    await add(100)
    expect(await refusals(), time).toBeLessThan(25)
    await expect(producer.waiting()).rejects.toThrow('NOPERM')
    await mayUse('~*')
  }
  await eventually(async () => {
    const before = await waiting('{ringback_1}')
    await add(2)
    expect(await waiting('{ringback_1}')).toBeGreaterThan(before)
  })
  expect(await producer.state()).toMatchObject({ waiting: added, active: 0 })
  await redis.client.del('{ringback}:store:wait')
  expect((await producer.state()).oldestAgeMs).toBeGreaterThan(0)
})

test('a queue of which somebody has paused one shard is known to be paused, and what waits there counts', async () => {
  await using redis = await startRedis()
  const producer = createProducer({ ...on(redis), storeShards: 2 }, 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  for (const id of ['group-1', 'group-2']) await producer.add(id, {})
  expect(await producer.state()).toMatchObject({ waiting: 2, isPaused: false })
  const shard = openStoreQueue({ ...on(redis), prefix: '{ringback_1}' })
  await using _closingShard = { [Symbol.asyncDispose]: () => shard.close() }
  await shard.pause()
  expect(await producer.state()).toMatchObject({ waiting: 2, isPaused: true })
  expect(await producer.waiting()).toBe(2)
})

test('a Redis that does not permit CONFIG is used, its settings are asked for, and ingest tells of it', async () => {
  await using redis = await startRedis()
  await redis.client.call('ACL', 'SETUSER', 'default', '-config')
  await using database = { ...(await freshDatabase()), queue: on(redis) }
  const lines: string[] = []
  const telling = createLogger('test', 'warn', { write: (line) => void lines.push(line) })
  await using ingest = await startIngest(database, { log: telling })
  await using _worker = await startWorker(database)
  const load = startLoad(ingest.port)
  await storesMore(database, load, 20)
  await load.end()
  const told = () => lines.filter((line) => line.includes('"queue.unsafe"')).join()
  await eventually(async () => expect(told()).toContain('its settings cannot be read'))
  const problems = await unsafeQueueSettings(database.queue)
  expect(problems).toContainEqual(expect.stringContaining('its settings cannot be read'))
  expect(problems).toContainEqual(expect.stringContaining('maxmemory is not set'))
})

test('a Redis whose settings become unsafe while ingest runs is told of', async () => {
  await using redis = await startRedis()
  await using database = { ...(await freshDatabase()), queue: on(redis) }
  const { lines, log: telling } = keptLog('warn')
  await using _ingest = await startIngest(database, { log: telling, settingsIntervalMs: 50 })
  const told = () => lines.filter(({ msg }) => msg === 'queue.unsafe').map(({ problem }) => String(problem))
  await eventually(async () => expect(told()).not.toEqual([]))
  expect(told().join()).not.toContain('appendonly')
  await redis.client.config('SET', 'appendonly', 'no')
  await eventually(async () => expect(told().join()).toContain('appendonly is off'))
})

test('the rights that configuration.md gives to a user of Redis are enough', async () => {
  await using redis = await startRedis()
  const page = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8')
  const [, rights] = /^ACL SETUSER ringback on '>password' (.+)$/m.exec(page)!
  await redis.client.call('ACL', 'SETUSER', 'ringback', 'on', '>password', ...rights!.split(' '))
  const queue = { ...on({ url: redis.url.replace('//', '//ringback:password@') }), storeShards: 2 }
  await using database = { ...(await freshDatabase()), queue }
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const load = startLoad(ingest.port)
  await storesMore(database, load, 100)
  await load.end()
  await expectStored(database, load)
  expect(await unsafeQueueSettings(queue)).toEqual([expect.stringContaining('maxmemory is not set')])
  expect(await redis.client.call('ACL', 'LOG')).toEqual([])
})

test('a read-only replica and a missing log are said to be unsafe', async () => {
  await using redis = await startRedis(['--appendonly', 'no'])
  await redis.client.replicaof('127.0.0.1', 1)
  const problems = await unsafeQueueSettings(on(redis))
  expect(problems).toContainEqual(expect.stringContaining('read-only replica'))
  expect(problems).toContainEqual(expect.stringContaining('appendonly is off'))
})

test('passwords that a Redis or a sentinel repeats, because it knows none, are not logged', async () => {
  await using redis = await startRedis(WITHOUT_AUTH)
  const at = `127.0.0.1:${redis.port}`
  const { lines, log: own } = keptLog()
  for (const url of [`redis://:hush-hush@${at}`, `redis+sentinel://${at}/name?sentinelPassword=hush-hush`]) {
    const logged = lines.length
    const producer = createProducer(on({ url }), 'store', { timeoutMs: 1000, log: own })
    await eventually(async () => {
      await producer.probe().catch(() => {})
      expect(lines.slice(logged)).toContainEqual(
        expect.objectContaining({ error: expect.stringMatching(/ERR unknown command 'auth'$/) as string }),
      )
    })
    await producer.close()
  }
  expect(JSON.stringify(lines)).not.toContain('hush-hush')
})
