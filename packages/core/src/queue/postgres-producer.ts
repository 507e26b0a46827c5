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
 * Connects when it is first used, and anew after that has failed, so that the server may be away. What takes longer
 * than `timeoutMs` rejects, and may have been done all the same.
 */
export function createPostgresProducer<Data extends object>(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  options: ProducerOptions,
): Producer<Data> {
  const { timeoutMs } = options
  // A queue whose server was away when it was made never recovers, so a failed one is thrown away.
  const connected = lazily(() => connect(server, name, options))
  const within = <Result>(work: (connection: Connected) => Promise<Result>) =>
    withTimeout(connected.get().then(work), timeoutMs, `the ${name} queue did not answer within ${timeoutMs} ms`)
  return {
    add: (id, data) => within(async ({ queue }) => void (await queue.add(name, data, { jobId: id }))),
    probe: () => within(({ probe }) => probe()),
    // A full disk refuses what is new and lets a worker go on: nothing needs to stop early.
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
      // A transaction id is only given out where writes are possible: not by a standby.
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

/** BullMQ itself gives the newest, if only one job is asked for. Its index `job_ready_idx` leads to the oldest. */
async function oldestAddedAt(pool: Pool, name: QueueName): Promise<number | undefined> {
  const { rows } = await pool.query<{ addedAt: string }>(
    `select added_at_ms as "addedAt" from bullmq.job
    where queue = $1 and state = 'waiting' and priority = 0 order by seq limit 1`,
    [name],
  )
  return rows[0] && Number(rows[0].addedAt)
}
