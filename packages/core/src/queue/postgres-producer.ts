import { createPostgresBackend, withBackend } from 'bullmq'
import type { Queue } from 'bullmq'
import { Pool } from 'pg'
import { withTimeout } from '../with-timeout.ts'
import { lazily } from '../lazily.ts'
import { SafeClient, serverConfig } from './postgres-client.ts'
import { createPostgresLossDetector, postgresIdentity } from './postgres-loss.ts'
import { queueOptions, stateOf } from './producer.ts'
import type { Producer, ProducerOptions } from './producer.ts'
import type { QueueName, QueueServer } from './server.ts'

const PostgresBacked = withBackend(createPostgresBackend)

interface Connected {
  queue: Pick<Queue, 'add' | 'getWaitingCount' | 'getJobCounts'>
  oldestAddedAt: () => Promise<number | undefined>
  probe: () => Promise<void>
  detectLoss: () => Promise<string | undefined>
  identity: () => Promise<string>
  close: () => Promise<void>
}

/**
 * Connects at its first use, and again after a failure, so the server may be down when it is made. A call that takes longer
 * than `timeoutMs` rejects, and may have been carried out all the same.
 */
export function createPostgresProducer<Data extends object>(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  options: ProducerOptions,
): Producer<Data> {
  const { timeoutMs } = options
  // A queue that was made while its server was down never recovers, so it is made anew.
  const connected = lazily(() => connect(server, name, options))
  const within = <Result>(work: (connection: Connected) => Promise<Result>) =>
    withTimeout(connected.get().then(work), timeoutMs, `the ${name} queue did not answer within ${timeoutMs} ms`)
  return {
    add: (id, data) => within(async ({ queue }) => void (await queue.add(name, data, { jobId: id }))),
    probe: () => within(({ probe }) => probe()),
    // With a full disk Postgres refuses new jobs and lets workers go on: nothing needs to stop early.
    hasRoom: async () => true,
    detectLoss: () => within(({ detectLoss }) => detectLoss()),
    identity: () => within(({ identity }) => identity()),
    waiting: () => within(({ queue }) => queue.getWaitingCount()),
    state: () => within(({ queue, oldestAddedAt }) => stateOf(queue, oldestAddedAt)),
    close: async () => (await connected.current()?.catch(() => undefined))?.close(),
  }
}

async function connect(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  { timeoutMs, log }: ProducerOptions,
): Promise<Connected> {
  const onError = (error: Error) => log.warn({ queue: name, error: error.message }, 'queue.failed')
  const connection = {
    Client: SafeClient,
    ...serverConfig(server.url),
    application_name: `ringback ${name} producer`,
    keepAlive: true,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
    statement_timeout: timeoutMs,
  }
  const queue = new PostgresBacked.Queue(name, { ...queueOptions(name), connection: { ...connection, max: 4 } })
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
    return {
      queue,
      oldestAddedAt: () => oldestAddedAt(prober, name),
      // Only a server that takes writes gives out a transaction id: a standby rejects this.
      probe: async () => void (await prober.query('select pg_current_xact_id()')),
      detectLoss: createPostgresLossDetector(prober),
      identity: () => postgresIdentity(prober),
      close,
    }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

/**
 * When the oldest waiting job was added, in ms since 1970. BullMQ itself returns the newest if it is asked for one job. Its
 * index `job_ready_idx` leads to the oldest.
 */
async function oldestAddedAt(pool: Pool, name: QueueName): Promise<number | undefined> {
  const { rows } = await pool.query<{ addedAt: string }>(
    `select added_at_ms as "addedAt" from bullmq.job
    where queue = $1 and state = 'waiting' and priority = 0 order by seq limit 1`,
    [name],
  )
  return rows[0] && Number(rows[0].addedAt)
}
