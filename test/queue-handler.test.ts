import { randomBytes } from 'node:crypto'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { expect, inject, test } from 'vitest'
import { queue } from '@ringback/core/handlers'
import { deliver, kept, notifying, outcomes, untilEnded } from './support/deliver.ts'
import { freePort } from './support/free-port.ts'
import { startRedis, WITHOUT_AUTH } from './support/redis-servers.ts'
import { aCallback, eventually, freshDatabase, postCallbacks, startIngest, startWorker } from './support/ringback.ts'
import { startSilentServer } from './support/silent-server.ts'
import { proxyTo } from './support/tcp-proxy.ts'

const redisUrl = inject('redisUrl')

const newPlace = () => ({ name: 'crm', prefix: `{test-${randomBytes(6).toString('hex')}}` })

/** The user's own side of a queue; the keys are removed at the end. */
function openQueue(place: { name: string; prefix: string }, { isReading = true } = {}) {
  const client = new Redis(redisUrl, { maxRetriesPerRequest: null })
  const queue = new Queue(place.name, { connection: client, prefix: place.prefix, skipMetasUpdate: true })
  const jobs: { id: string | undefined; name: string; data: unknown }[] = []
  const process = async ({ id, name, data }: { id?: string; name: string; data: unknown }) => {
    jobs.push({ id, name, data })
  }
  const worker = isReading ? new Worker(place.name, process, { connection: client, prefix: place.prefix }) : undefined
  return {
    queue,
    client,
    next: () =>
      eventually(async () => {
        expect(jobs).not.toHaveLength(0)
        return jobs.shift()!
      }),
    async [Symbol.asyncDispose]() {
      await worker?.close()
      await queue.obliterate({ force: true })
      await queue.close()
      client.disconnect()
    },
  }
}

test('an event is a job that a worker of BullMQ reads, and a replay is another one', async () => {
  await using database = await freshDatabase()
  const place = newPlace()
  const config = notifying(queue({ redisUrl, ...place, jobOptions: { removeOnFail: true } }))
  await deliver(database, config, aCallback('9007199254740993', { sms_inbound: { text: 'hi' } }))

  await using jobs = openQueue(place)
  const [delivery] = await database.sql<{ id: string }[]>`select id from deliveries`
  const job = await jobs.next()
  expect(job).toMatchObject({ id: delivery!.id, name: 'sms_inbound' })
  expect(job.data).toMatchObject({
    source: 'voximplant',
    callbackId: '9007199254740993',
    payload: { sms_inbound: { text: 'hi' } },
  })

  await database.sql`
    update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null, attempts_at_replay = attempts`
  await using _worker = await startWorker(database, { config })
  await untilEnded(database)
  expect((await jobs.next()).id).toBe(`${delivery!.id}-replay-1`)
})

test('an attempt that is repeated adds no second job, and the settings of the queue are left alone', async () => {
  await using database = await freshDatabase()
  const place = newPlace()
  const config = notifying(queue({ redisUrl, ...place }))
  await using jobs = openQueue(place, { isReading: false })
  await jobs.client.hset(`${place.prefix}:crm:meta`, 'opts.maxLenEvents', '77')
  await deliver(database, config, aCallback(1))
  await database.sql`update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null`
  await using _worker = await startWorker(database, { config })
  await untilEnded(database)
  expect(await outcomes(database)).toMatchObject([{ status: 'succeeded', attempts: 2 }])
  expect(await jobs.queue.getJobCounts('waiting')).toEqual({ waiting: 1 })
  expect(await jobs.client.hgetall(`${place.prefix}:crm:meta`)).toEqual({ 'opts.maxLenEvents': '77' })
})

test('a Redis that says nothing costs no more than the time limit, and its password is kept nowhere', async () => {
  await using database = await freshDatabase()
  await using silent = await startSilentServer()
  const url = `redis://:s3cret-word@127.0.0.1:${silent.port}`
  await deliver(database, notifying(queue({ redisUrl: url, name: 'crm', timeoutMs: 300 })), aCallback(1))
  expect(await outcomes(database)).toMatchObject([{ status: 'dead', error: expect.any(String) }])
  const [attempt] = await database.sql<{ ms: number }[]>`select duration_ms as ms from attempts`
  expect(attempt!.ms).toBeLessThan(2000)
  expect(await kept(database)).not.toContain('s3cret-word')
})

test.each([
  ['that is down', (port: number) => `redis://127.0.0.1:${port}`, 'ECONNREFUSED'],
  ['whose password is another', () => redisUrl.replace('//', '//nobody:s3cret-word@'), 'WRONGPASS'],
  ['without that database', () => `${redisUrl}/9999`, 'ERR DB index is out of range'],
  ['that is no cluster', () => redisUrl.replace(':', '+cluster:'), 'ERR This instance has cluster support disabled'],
])('the reason of a failure is told: a Redis %s', async (_state, urlOf, reason) => {
  await using database = await freshDatabase()
  await deliver(database, notifying(queue({ redisUrl: urlOf(await freePort()), name: 'crm' })), aCallback(1))
  const [outcome] = await outcomes(database)
  expect(outcome!.error).toContain(`the job could not be added (${reason}`)
  expect(await kept(database)).not.toContain('s3cret-word')
})

test.each(['redis', 'redis+cluster'])('a password that a server repeats is kept nowhere: %s', async (protocol) => {
  await using database = await freshDatabase()
  await using redis = await startRedis(WITHOUT_AUTH)
  const url = `${protocol}://nobody:s3cret-word@127.0.0.1:${redis.port}`
  await deliver(database, notifying(queue({ redisUrl: url, name: 'crm' })), aCallback(1))
  const [outcome] = await outcomes(database)
  expect(outcome!.error).toBe("the job could not be added (ERR unknown command 'auth')")
  expect(await kept(database)).not.toContain('s3cret-word')
})

test('a Redis that was down, or froze, gets its jobs when it is back', async () => {
  await using database = await freshDatabase()
  await using proxy = await proxyTo(redisUrl)
  const place = newPlace()
  await using jobs = openQueue(place, { isReading: false })
  const config = notifying(queue({ redisUrl: proxy.url, ...place, timeoutMs: 300 }), { maxAttempts: 100 })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const untilFailed = (handled: number) =>
    eventually(async () => {
      const failed = database.sql`
        select from attempts as a join deliveries as d on d.id = a.delivery_id
        where a.outcome = 'failed' and d.status = 'pending'`
      expect((await failed).length).toBeGreaterThan(0)
      expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(handled)
    })

  await proxy.cut()
  await postCallbacks(ingest, aCallback(1))
  await untilFailed(0)
  await proxy.restore()
  await untilEnded(database)

  proxy.freeze()
  await postCallbacks(ingest, aCallback(2))
  await untilFailed(1)
  await proxy.restore()
  await untilEnded(database)
  expect(await jobs.queue.getJobCounts('waiting')).toEqual({ waiting: 2 })
})
