import { setTimeout as sleep } from 'node:timers/promises'
import { Worker, createPostgresBackend, withBackend } from 'bullmq'
import type { Job, PostgresQueueBackend, WorkerOptions } from 'bullmq'
import type { Logger } from '../log.ts'
import { createErrorLog } from './error-log.ts'
import { SafeClient, serverConfig } from './postgres-client.ts'
import { BLOCK_SECONDS, createPatientClient } from './redis-client.ts'
import type { RedisClient } from './redis-client.ts'
import { inRounds } from './rounds.ts'
import type { RoundOptions } from './rounds.ts'
import { UNLIMITED } from './server.ts'
import type { QueueName, QueueServer } from './server.ts'
import { MAX_STORE_SHARDS, shardCount, shardPrefix } from './shards.ts'
import { correctInPostgres, correctInRedis, keepCorrecting } from './times-ahead.ts'

export interface Consumer {
  /** Finishes the jobs in hand, then closes the connections. Takes as long as the jobs do. */
  close: () => Promise<void>
}

/** A job as a processor sees it. */
export interface QueueJob {
  id: string
  /** As it was added. Check it: an older or newer version of Ringback may have added it. */
  data: unknown
  /** How often a process that had it in hand has died, or has not renewed its lock for 3 s. */
  stalls?: number
}

export interface ConsumerOptions {
  /** How many jobs, or rounds of jobs, are processed at a time, over all shards; each shard has at least one. */
  concurrency: number
  log: Logger
  /** Ends a start that waits for the server. */
  stopping: AbortSignal
}

type Process = (job: QueueJob) => Promise<void>
/** How jobs are processed: one by one, or in rounds of as many as are waiting. */
type Work = Process | RoundOptions

/** The pause before a server that answers but refuses (full, read-only, its disk full) is asked again. */
const REFUSED_PAUSE_MS = 250
const FINISH_DEADLINE_MS = 10_000
const FORCED_CLOSE_MS = 1000
/** How long a query on Postgres waits for an answer. After that its connection counts as dead, and the next one is new. */
const POSTGRES_QUERY_TIMEOUT_MS = 5000
const POSTGRES_CONNECT_TIMEOUT_MS = 5000
/** How often shards that nobody fills any more are searched for work. */
const FORMER_SHARDS_INTERVAL_MS = 30_000

/**
 * Processes jobs, `concurrency` at a time, and waits for the server whenever it is down. On Postgres, resolves only once the
 * server has answered, and rejects only if `stopping` fires before that. A job is processed at least once: again if the
 * process dies, and perhaps again if its event loop is blocked for 3 s.
 */
export function createConsumer(
  server: QueueServer,
  name: QueueName,
  options: ConsumerOptions,
  work: Work,
): Promise<Consumer> {
  return server.kind === 'redis'
    ? createRedisConsumer(server, name, options, work)
    : createPostgresConsumer(server, name, options, work)
}

const steady = (Base: typeof Worker) =>
  class extends Base {
    // After a failed wait BullMQ sets no limit to the next one, which on Redis means 10 s and on Postgres an hour.
    protected override getBlockTimeout(blockUntil: number): number {
      return Math.min(super.getBlockTimeout(blockUntil), BLOCK_SECONDS)
    }

    // Without a pause BullMQ would ask again at once, thousands of times a second.
    protected override async moveToActive(...args: Parameters<Worker['moveToActive' & keyof Worker]>): Promise<Job> {
      try {
        return await super.moveToActive(...(args as [string, string]))
      } catch (error) {
        await sleep(REFUSED_PAUSE_MS)
        throw error
      }
    }
  }

/** Returns a function that makes workers on one backend; one that is made does not run yet. */
function workersOn(Base: typeof Worker) {
  const Steady = steady(Base)
  const InRounds = inRounds(Steady)
  return (
    name: QueueName,
    work: Work,
    options: WorkerOptions,
    log: Logger,
    onError: (error: Error) => void,
  ): Worker => {
    const worker =
      typeof work === 'function' ? new Steady(name, toProcessor(work), options) : new InRounds(name, work, options)
    return worker
      .on('error', onError)
      .on('failed', (job, { message }) => log.error({ queue: name, jobId: job?.id, error: message }, 'job.failed'))
  }
}

const redisWorker = workersOn(Worker)
// The same class on another backend, whose types differ only in places that are not used here.
const postgresWorker = workersOn(withBackend(createPostgresBackend).Worker as unknown as typeof Worker)

const settings = {
  autorun: false,
  // A killed worker's jobs are taken up by another within 2 to 4 s.
  lockDuration: 3000,
  stalledInterval: 1000,
  maxStalledCount: UNLIMITED,
  drainDelay: BLOCK_SECONDS,
  // The pause after a refused connection; 15 s by default.
  runRetryDelay: 1000,
} satisfies Omit<WorkerOptions, 'connection'>

async function createRedisConsumer(
  server: QueueServer & { kind: 'redis' },
  name: QueueName,
  { concurrency, log }: ConsumerOptions,
  work: Work,
): Promise<Consumer> {
  const onError = createErrorLog(log, name)
  const client = createPatientClient(server.url)
  client.on('error', onError)
  const shards = shardCount(server, name)
  const keyOf = (shard: number) => `${shardPrefix(server.prefix, shard)}:${name}`
  const workers = new Map<number, Worker>()
  let isClosing = false

  function consume(shard: number): void {
    const options = {
      ...settings,
      concurrency: Math.ceil(concurrency / shards),
      connection: client,
      prefix: shardPrefix(server.prefix, shard),
    }
    const worker = redisWorker(name, work, options, log, onError)
    worker.run().catch(onError)
    workers.set(shard, worker)
  }

  for (let shard = 0; shard < shards; shard++) consume(shard)
  const look = () => void consumeFormerShards().catch(onError)
  const looking = name === 'store' ? setInterval(look, FORMER_SHARDS_INTERVAL_MS) : undefined
  if (looking !== undefined) look()
  const correct = (shard: number) => correctInRedis(client, keyOf(shard))
  const stopCorrecting = keepCorrecting(() => Promise.all([...workers.keys()].map(correct)), onError)

  async function consumeFormerShards(): Promise<void> {
    for (let shard = shards; shard < MAX_STORE_SHARDS; shard++) {
      if (workers.has(shard) || !(await hasWork(client, keyOf(shard)))) continue
      if (isClosing) return
      log.warn({ queue: name, shard, storeShards: shards }, 'queue.former_shard')
      consume(shard)
    }
  }

  return {
    close: async () => {
      isClosing = true
      clearInterval(looking)
      stopCorrecting()
      await Promise.all([...workers.values()].map((worker) => closeWorker(worker, client.status === 'ready')))
      client.disconnect()
    },
  }
}

/** Whether a queue holds jobs, in any state that a job of ours can be in. */
async function hasWork(client: RedisClient, queue: string): Promise<boolean> {
  return (await client.exists(`${queue}:wait`, `${queue}:active`, `${queue}:delayed`, `${queue}:prioritized`)) > 0
}

/** The most connections that serve jobs. Jobs mostly wait for something else, so these carry any number of them. */
const MAX_CONSUMER_POOL = 16
/** The size of a consumer's pool. One more connection, outside the pool, listens for jobs. */
const consumerPool = (concurrency: number) => Math.min(concurrency, MAX_CONSUMER_POOL) + 2

/** How many connections a consumer may open to the database where the queue is; 0 if it is in Redis. */
export function consumerConnections(server: QueueServer, concurrency: number): number {
  return server.kind === 'postgres' ? consumerPool(concurrency) + 1 : 0
}

async function createPostgresConsumer(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  { concurrency, log, stopping }: ConsumerOptions,
  work: Work,
): Promise<Consumer> {
  const onError = createErrorLog(log, name)
  const config = serverConfig(server.url)
  const connection = {
    Client: SafeClient,
    ...config,
    application_name: `ringback ${name} consumer`,
    max: consumerPool(concurrency),
    keepAlive: true,
    connectionTimeoutMillis: POSTGRES_CONNECT_TIMEOUT_MS,
    query_timeout: POSTGRES_QUERY_TIMEOUT_MS,
    statement_timeout: POSTGRES_QUERY_TIMEOUT_MS,
    // Makes a query that times out end its connection. BullMQ would try to listen for jobs on a dead one again and again.
    pipeline: true,
    // What a consumer writes need not be on disk at once: if the server loses it, the job comes once more.
    options: `${config.options} -c synchronous_commit=off`,
  }
  for (;;) {
    const worker = postgresWorker(name, work, { ...settings, concurrency, connection }, log, onError)
    try {
      // A worker that runs before its server has answered once never recovers: it retries without end and without a pause.
      await worker.waitUntilReady()
      worker.run().catch(onError)
      // The type of a worker does not say which backend it was made with.
      const { pool } = (worker.backend as unknown as PostgresQueueBackend).connection
      const stopCorrecting = keepCorrecting(() => correctInPostgres(pool, name), onError)
      return {
        close: () => {
          stopCorrecting()
          return closeWorker(worker, true)
        },
      }
    } catch (error) {
      onError(error as Error)
      await worker.close(true).catch(onError)
      await sleep(1000, undefined, { signal: stopping })
    }
  }
}

const toProcessor = (process: Process) => (job: Job) =>
  process({ id: job.id!, data: job.data, stalls: job.stalledCounter })

/** Finishes the jobs in hand, unless the server is down: then none can be finished, and another worker runs them again. */
async function closeWorker(worker: Worker, serverIsThere: boolean): Promise<void> {
  if (serverIsThere) await Promise.race([worker.close(), sleep(FINISH_DEADLINE_MS, undefined, { ref: false })])
  // On a dead connection Postgres never answers the good-bye, hence the limit.
  await Promise.race([worker.close(true), sleep(FORCED_CLOSE_MS, undefined, { ref: false })])
}
