import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, Worker, createPostgresBackend, runMigrations, withBackend } from 'bullmq'
import type { Job, QueueOptions, WorkerOptions } from 'bullmq'
import { Redis } from 'ioredis'
import type { RedisOptions } from 'ioredis'
import { Client, Pool } from 'pg'
import type { Logger } from './log.ts'

// BullMQ on Redis or on Postgres, behind the two things that Ringback does with it: add a job durably, or fail within a
// time limit; and process jobs, waiting for the server as long as it takes.

const PostgresBacked = withBackend(createPostgresBackend)

/** Where the queue lives. */
export type QueueServer = { kind: 'redis'; url: string; prefix: string } | { kind: 'postgres'; url: string }

/** The hash tag keeps a queue's keys on one node of a Redis Cluster. */
const DEFAULT_PREFIX = '{ringback}'

/** Postgres's largest integer: BullMQ counts attempts and stalls in one, and refuses more there. */
const UNLIMITED = 2_147_483_647

/** `maxAttempts`: how often BullMQ itself runs a job that throws. */
const queues = {
  /** Groups to store. Never given up: what was acknowledged is in there. */
  store: { maxAttempts: UNLIMITED },
  /** Deliveries to run. One try, for Postgres knows what is still to do, and the scanner enqueues it again. */
  deliveries: { maxAttempts: 1 },
} as const

export type QueueName = keyof typeof queues

/** Redis where its URL is given, else Postgres beside the events. Throws if neither is. */
export function queueServer(urls: { redisUrl: string | undefined; databaseUrl: string | undefined }): QueueServer {
  if (urls.redisUrl !== undefined) return { kind: 'redis', url: urls.redisUrl, prefix: DEFAULT_PREFIX }
  if (urls.databaseUrl !== undefined) return { kind: 'postgres', url: urls.databaseUrl }
  throw new Error('There is nowhere to put callbacks: set REDIS_URL, or DATABASE_URL to have the queue in Postgres')
}

/** Makes or updates what the queue needs on its server: BullMQ's own schema `bullmq`, where it lives in Postgres. */
export async function migrateQueue(server: QueueServer): Promise<void> {
  if (server.kind === 'redis') return
  const client = new Client({ connectionString: server.url })
  client.on('error', () => {}) // the query below fails with the same error
  await client.connect()
  try {
    await runMigrations(client)
  } finally {
    await client.end()
  }
}

export interface QueueState {
  waiting: number
  active: number
  /** How long the oldest waiting job has waited; 0 where there is none. */
  oldestAgeMs: number
}

export interface Producer<Data> {
  /**
   * Resolves when the job is durable as far as the server's settings go: with `appendfsync always`, on disk. Rejects
   * within the time limit; the job may have been added all the same, so what consumes it must bear it twice.
   * @param id never used before, without ":" and not only digits (BullMQ's rules)
   */
  add: (id: string, data: Data) => Promise<void>
  /** Resolves if the server takes writes, rejects otherwise, within the time limit. */
  probe: () => Promise<void>
  /** Jobs that wait for a consumer. */
  waiting: () => Promise<number>
  /** What waits and what is being processed, over all consumers. */
  state: () => Promise<QueueState>
  close: () => Promise<void>
}

/** A producer that connects at its first use, and again after a failure: it may be made while the server is away. */
export function createProducer<Data extends object>(
  server: QueueServer,
  name: QueueName,
  { timeoutMs, log }: { timeoutMs: number; log: Logger },
): Producer<Data> {
  let connecting: Promise<Connected> | undefined

  // A queue whose server was away when it was made never recovers, so a failed one is thrown away.
  function connected(): Promise<Connected> {
    connecting ??= connectProducer(server, name, timeoutMs, log).catch((error: unknown) => {
      connecting = undefined
      throw error
    })
    return connecting
  }

  const within = <Result>(work: (connection: Connected) => Promise<Result>) =>
    withTimeout(connected().then(work), timeoutMs, `the ${name} queue did not answer within ${timeoutMs} ms`)

  return {
    add: (id, data) => within(async ({ queue }) => void (await queue.add(name, data, { jobId: id }))),
    probe: () => within(({ probe }) => probe()),
    waiting: () => within(({ queue }) => queue.getWaitingCount()),
    state: () => within(({ queue }) => stateOf(queue)),
    close: async () => (await connecting?.catch(() => undefined))?.close(),
  }
}

async function stateOf(queue: Connected['queue']): Promise<QueueState> {
  const [counts, [oldest]] = await Promise.all([
    queue.getJobCounts('waiting', 'active'),
    queue.getJobs(['waiting'], 0, 0, true),
  ])
  const oldestAgeMs = oldest === undefined ? 0 : Math.max(0, Date.now() - oldest.timestamp)
  return { waiting: counts.waiting ?? 0, active: counts.active ?? 0, oldestAgeMs }
}

interface Connected {
  queue: Pick<Queue, 'add' | 'getWaitingCount' | 'getJobCounts' | 'getJobs'>
  probe: () => Promise<void>
  close: () => Promise<void>
}

async function connectProducer(
  server: QueueServer,
  name: QueueName,
  timeoutMs: number,
  log: Logger,
): Promise<Connected> {
  const onError = (error: Error) => log.warn({ queue: name, error: error.message }, 'queue.failed')
  const options = {
    defaultJobOptions: {
      attempts: queues[name].maxAttempts,
      backoff: { type: 'fixed', delay: 1000 },
      // Nothing is left behind: a queue that keeps finished jobs fills its server.
      removeOnComplete: true,
      removeOnFail: true,
    },
    streams: { events: { maxLen: 10 } },
  } satisfies Omit<QueueOptions, 'connection'>

  if (server.kind === 'redis') {
    const client = new Redis(server.url, {
      ...redisOptions,
      lazyConnect: true,
      // Fail at once while the connection is away, instead of collecting commands.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 1,
      autoResendUnfulfilledCommands: false,
      connectTimeout: timeoutMs,
      commandTimeout: timeoutMs,
      // A frozen server answers nothing and closes nothing: give up on the socket, with all that waits on it.
      socketTimeout: 2 * timeoutMs,
    })
    client.on('error', onError)
    try {
      await client.connect()
      const queue = new Queue(name, { ...options, connection: client, prefix: server.prefix })
      queue.on('error', onError)
      await queue.waitUntilReady()
      return {
        queue,
        // A write, for a server that is full or a replica answers reads.
        probe: async () => void (await client.set(`${server.prefix}:probe`, '1', 'PX', 10_000)),
        close: async () => {
          await queue.close()
          client.disconnect()
        },
      }
    } catch (error) {
      client.disconnect()
      throw error
    }
  }

  const connection = {
    connectionString: server.url,
    application_name: `ringback ${name} producer`,
    keepAlive: true,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
    statement_timeout: timeoutMs,
  }
  const queue = new PostgresBacked.Queue(name, { ...options, connection: { ...connection, max: 4 } })
  queue.on('error', onError)
  const prober = new Pool({ ...connection, max: 1 })
  // Without a listener an idle connection that the server ends would end the process.
  prober.on('error', onError)
  const close = async () => {
    await queue.close()
    await prober.end()
  }
  try {
    await queue.waitUntilReady()
    // A transaction id is only given out where writes are possible: not by a standby.
    return { queue, probe: async () => void (await prober.query('select pg_current_xact_id()')), close }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

export interface Consumer {
  /** Finishes the jobs in hand, then closes the connections. Takes as long as the jobs do. */
  close: () => Promise<void>
}

/** A job as a processor sees it. */
export interface QueueJob {
  id: string
  /** As it was put in; check it, for an older or newer version of Ringback may have done so. */
  data: unknown
}

/**
 * Processes jobs, `concurrency` at a time, and waits for the server whenever it is away; on Postgres this waits until it
 * is there. A job is processed at least once: again if the process dies, and it may be if its event loop is blocked for
 * 3 s. Rejects only when `stopping` fires.
 */
export async function createConsumer(
  server: QueueServer,
  name: QueueName,
  { concurrency, log, stopping }: { concurrency: number; log: Logger; stopping: AbortSignal },
  process: (job: QueueJob) => Promise<void>,
): Promise<Consumer> {
  const processor = (job: Job) => process({ id: job.id!, data: job.data })
  const options = {
    concurrency,
    autorun: false,
    // A killed worker's jobs are taken up by another within 2 to 4 s.
    lockDuration: 3000,
    stalledInterval: 1000,
    maxStalledCount: UNLIMITED,
  } satisfies Omit<WorkerOptions, 'connection'>
  const onError = (error: Error) => log.warn({ queue: name, error: error.message }, 'queue.failed')
  const onFailed = (job: { id?: string } | undefined, error: Error) =>
    log.error({ queue: name, jobId: job?.id, error: error.message }, 'job.failed')

  if (server.kind === 'redis') {
    const client = new Redis(server.url, { ...redisOptions, maxRetriesPerRequest: null })
    client.on('error', onError)
    const worker = new Worker(name, processor, { ...options, connection: client, prefix: server.prefix })
    worker.on('error', onError).on('failed', onFailed)
    worker.run().catch(onError)
    return {
      close: async () => {
        await closeWorker(worker, client.status === 'ready')
        client.disconnect()
      },
    }
  }

  const connection = {
    connectionString: server.url,
    application_name: `ringback ${name} consumer`,
    max: concurrency + 2,
    keepAlive: true,
  }
  for (;;) {
    const worker = new PostgresBacked.Worker(name, processor, { ...options, connection })
    worker.on('error', onError).on('failed', onFailed)
    try {
      // One that runs before its server has answered once never recovers: it asks again without end and without a pause.
      await worker.waitUntilReady()
      worker.run().catch(onError)
      return { close: () => closeWorker(worker, true) }
    } catch (error) {
      onError(error as Error)
      await worker.close(true).catch(onError)
      await sleep(1000, undefined, { signal: stopping })
    }
  }
}

const FINISH_DEADLINE_MS = 10_000

/** Finishes what is in hand, unless the server is away: then nothing can be finished, and another worker does it again. */
async function closeWorker(worker: Pick<Worker, 'close'>, serverIsThere: boolean): Promise<void> {
  if (serverIsThere) await Promise.race([worker.close(), sleep(FINISH_DEADLINE_MS, undefined, { ref: false })])
  await worker.close(true)
}

/** What is unsafe about a Redis server's settings, each with its mend; empty for Postgres. */
export async function unsafeQueueSettings(server: QueueServer): Promise<string[]> {
  if (server.kind === 'postgres') return []
  const client = new Redis(server.url, {
    ...redisOptions,
    lazyConnect: true,
    maxRetriesPerRequest: 1,
    connectTimeout: 1000,
    commandTimeout: 1000,
  })
  client.on('error', () => {}) // connect and config below fail with the same error
  try {
    await client.connect()
    const setting = async (name: string) => (await client.config('GET', name))[1]
    const problems: string[] = []
    if ((await setting('appendonly')) !== 'yes')
      problems.push('appendonly is off, so a restart of Redis loses what was acknowledged: set "appendonly yes"')
    else if ((await setting('appendfsync')) !== 'always')
      problems.push(
        'appendfsync is not "always", so a crash loses up to a second of what was acknowledged: set "appendfsync always"',
      )
    if ((await setting('maxmemory-policy')) !== 'noeviction')
      problems.push(
        'maxmemory-policy is not "noeviction", so a full Redis drops what was acknowledged: set "maxmemory-policy noeviction"',
      )
    return problems
  } catch (error) {
    return [
      `its settings cannot be read (${(error as Error).message}): see to "appendonly yes", "appendfsync always" and "maxmemory-policy noeviction"`,
    ]
  } finally {
    client.disconnect()
  }
}

const redisOptions = {
  keepAlive: 10_000,
  // ioredis backs off to several seconds by default; a callback that waits has less.
  retryStrategy: (times) => Math.min(times * 50, 1000),
} satisfies RedisOptions

async function withTimeout<Result>(work: Promise<Result>, timeoutMs: number, message: string): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message)), timeoutMs)
  })
  try {
    return await Promise.race([work, timeout])
  } finally {
    clearTimeout(timer)
  }
}
