import { randomBytes, randomUUID } from 'node:crypto'
import { Queue } from 'bullmq'
import type { JobJson, QueueOptions } from 'bullmq'
import { ReplyError } from 'ioredis'
import type { Redis } from 'ioredis'
import { createFullness, memoryUsage } from './fullness.ts'
import { COUNTER_TTL_MS, createLossDetector } from './loss.ts'
import type { Producer } from './producer.ts'
import { connectionTo, isAtLeast, parseInfo } from './redis-client.ts'
import type { RedisClient } from './redis-client.ts'

/** A queue, or one shard of it, on one Redis server. Its caller limits the time of each call. */
export interface RedisShard extends Omit<Producer<object>, 'waiting' | 'state'> {
  queue: Queue
}

export interface RedisShardOptions {
  client: RedisClient
  name: string
  prefix: string
  queueOptions: Omit<QueueOptions, 'connection' | 'prefix'>
  waitReplicas: number
  /** The time limit of an add, confirmation by replicas included. */
  timeoutMs: number
  onError: (error: Error) => void
}

/** What is left of the time limit for the answer "too few": Redis checks its own time limits only ten times a second. */
const ACK_MARGIN_MS = 150

/** The state of a job that is added. */
const NEW_JOB = {
  progress: 0,
  attemptsMade: 0,
  attemptsStarted: 0,
  stalledCounter: 0,
  failedReason: '',
  returnvalue: '',
} satisfies Partial<JobJson>

// Redis undoes nothing of a script that fails midway, for want of a right or at a key of the wrong type. What is left is the
// job's hash without a place in the queue, which the next add would take for the job itself. A job that a worker has taken
// has `processedOn`. Where the list cannot be searched this fails too: the job may wait in it.
const REMOVE_HALF_ADDED = `
  local isList = redis.call('TYPE', KEYS[2]).ok == 'list'
  local place = isList and redis.call('LPOS', KEYS[2], ARGV[1])
  if not place and redis.call('HEXISTS', KEYS[1], 'processedOn') == 0 then redis.call('DEL', KEYS[1]) end`

/**
 * Opens a queue on the server of `client`, which the caller has to close. Rejects if the server takes no writes. Then call
 * this again: a queue that was made while its server was down never recovers.
 */
export async function connectRedisShard(options: RedisShardOptions): Promise<RedisShard> {
  const { client, name, prefix, waitReplicas, timeoutMs } = options
  const newJob = { ...NEW_JOB, name, opts: options.queueOptions.defaultJobOptions ?? {} }
  const slot = client.isCluster ? await client.cluster('KEYSLOT', prefix) : 0
  const server = () => connectionTo(client, slot)
  // A write, because a full server and a replica still answer reads.
  const write = async () => void (await client.set(`${prefix}:probe`, '1', 'PX', 10_000))
  await write()
  const info = parseInfo(await server().info())
  const fullness = createFullness(async () => memoryUsage(parseInfo(await server().info('memory'))))
  const replicated = createReplicated({ server, info, waitReplicas, timeoutMs })

  const queue = new Queue(name, { ...options.queueOptions, connection: client, prefix })
  queue.on('error', options.onError)
  try {
    await queue.waitUntilReady()
  } catch (error) {
    await queue.close().catch(() => undefined)
    throw error
  }
  const counter = `${prefix}:alive:${randomUUID()}`
  const increment = async () => {
    const [count, , [seconds]] = await replicated(() =>
      Promise.all([client.incr(counter), client.pexpire(counter, COUNTER_TTL_MS), server().time()]),
    )
    return { count, at: Number(seconds) * 1000 }
  }

  const removeHalfAdded = (id: string) => client.eval(REMOVE_HALF_ADDED, 2, queue.toKey(id), queue.toKey('wait'), id)

  return {
    queue,
    async add(id, data) {
      fullness.check()
      // The script call of `queue.add` without its steps for tracing, listeners and options, which are not used here: each
      // callback that comes alone would wait for them.
      const job = { ...newJob, id, data: JSON.stringify(data), timestamp: Date.now() }
      await replicated(() => queue.backend.addJob(job, id)).catch(async (error: unknown) => {
        if (error instanceof ReplyError) await removeHalfAdded(id).catch(() => undefined)
        throw error
      })
    },
    async probe() {
      await fullness.refresh()
      fullness.check()
      await replicated(write)
    },
    async memoryUsage() {
      await fullness.refresh()
      return fullness.usage()
    },
    detectLoss: createLossDetector('Redis', increment),
    async identity() {
      const key = `${prefix}:identity`
      await client.set(key, randomBytes(16).toString('hex'), 'NX')
      const identity = await client.get(key)
      if (identity === null) throw new Error('the queue server keeps no name for its data')
      return identity
    },
    close: () => queue.close(),
  }
}

/** Makes a function that does a write, and rejects unless `waitReplicas` replicas confirm it in time. */
function createReplicated(options: {
  server: () => Redis
  info: Map<string, string>
  waitReplicas: number
  timeoutMs: number
}): <Result>(write: () => Promise<Result>) => Promise<Result> {
  const { server, info, waitReplicas, timeoutMs } = options
  if (waitReplicas === 0) return (write) => write()
  const hasWaitAof = isAtLeast(info, 7, 2) && info.get('aof_enabled') === '1'

  /** How many replicas have all that this connection wrote: on their disks (WAITAOF), else in their memory (WAIT). */
  async function countAcks(connection: Redis, ms: number): Promise<number> {
    if (!hasWaitAof) return connection.wait(waitReplicas, ms)
    const [, acks] = (await connection.call('WAITAOF', 1, waitReplicas, ms)) as [number, number]
    return acks
  }

  return async (write) => {
    const deadline = performance.now() + Math.max(timeoutMs - ACK_MARGIN_MS, timeoutMs / 2)
    const connection = server()
    const { stream } = connection
    const result = await write()
    // Redis counts replicas for what was written on this very connection; on another one, all of them count at once.
    if (server() !== connection || connection.stream !== stream) {
      throw new Error('the connection changed before replicas confirmed')
    }
    const leftMs = Math.max(1, Math.floor(deadline - performance.now())) // 0 would mean for ever
    const acks = await countAcks(connection, leftMs)
    if (acks < waitReplicas) throw new Error(`${acks} of ${waitReplicas} replicas confirmed in time`)
    return result
  }
}
