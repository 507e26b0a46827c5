import { setTimeout as sleep } from 'node:timers/promises'
import { createPostgresBackend, withBackend } from 'bullmq'
import type { PostgresQueueBackend, Worker } from 'bullmq'
import { closeWorker, workersOn } from './consumer.ts'
import type { Consumer, ConsumerOptions, Work } from './consumer.ts'
import { createErrorLog } from './error-log.ts'
import { SafeClient, serverConfig } from './postgres-client.ts'
import type { QueueName, QueueServer } from './server.ts'
import { correctInPostgres, keepCorrecting } from './times-ahead.ts'

/** How long a query waits for an answer. After that its connection counts as dead, and the next one is new. */
const QUERY_TIMEOUT_MS = 5000
const CONNECT_TIMEOUT_MS = 5000

/** The most connections that serve jobs. Jobs mostly wait for something else, so these carry any number of them. */
const MAX_CONSUMER_POOL = 16
/** The size of a consumer's pool. One more connection, outside the pool, listens for jobs. */
const consumerPool = (concurrency: number) => Math.min(concurrency, MAX_CONSUMER_POOL) + 2

/** How many connections a consumer may open to the database where the queue is; 0 if it is in Redis. */
export function consumerConnections(server: QueueServer, concurrency: number): number {
  return server.kind === 'postgres' ? consumerPool(concurrency) + 1 : 0
}

// The same class on another backend, whose types differ only in places that are not used here.
const postgresWorker = workersOn(withBackend(createPostgresBackend).Worker as unknown as typeof Worker)

/** Resolves once the server has answered, and rejects only if `stopping` fires before that. */
export async function createPostgresConsumer(
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
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    statement_timeout: QUERY_TIMEOUT_MS,
    // Makes a query that times out end its connection. BullMQ would try to listen for jobs on a dead one again and again.
    pipeline: true,
    // What a consumer writes need not be on disk at once: if the server loses it, the job comes once more.
    options: `${config.options} -c synchronous_commit=off`,
  }
  for (;;) {
    const worker = postgresWorker(name, work, { concurrency, connection }, log, onError)
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
