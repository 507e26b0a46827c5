import { createPostgresBackend, withBackend } from 'bullmq'
import type { Queue } from 'bullmq'
import { Pool } from 'pg'
import { withTimeout } from '../with-timeout.ts'
import { lazily } from '../lazily.ts'
import { createErrorLog } from './error-log.ts'
import { createTellLosses } from './loss.ts'
import { SafeClient, serverConfig } from './postgres-client.ts'
import { createPostgresLossDetector, postgresIdentity } from './postgres-loss.ts'
import { countWaiting, queueOptions, stateOf } from './producer.ts'
import type { Producer, ProducerOptions } from './producer.ts'
import type { QueueName, QueueServer } from './server.ts'

const PostgresBacked = withBackend(createPostgresBackend)

/** The size of BullMQ's pool for a producer. */
const QUEUE_POOL = 4
/** The size of the pool for what is not asked through BullMQ. */
const OWN_POOL = 1

/** How many connections a producer may open to the database where the queue is; 0 if it is in Redis. */
export function producerConnections(server: QueueServer): number {
  return server.kind === 'postgres' ? QUEUE_POOL + OWN_POOL : 0
}

interface Connected {
  queue: Pick<Queue, 'add' | 'getJobCountByTypes' | 'getJobCounts' | 'isPaused'>
  /** For what is not asked through BullMQ. */
  pool: Pool
  detectLoss: () => Promise<string | undefined>
  close: () => Promise<void>
}

/**
 * Connects at its first use, and again after a failure, so the server may be down when it is made. A call that takes longer
 * than `timeoutMs` rejects, and may have been carried out all the same.
 */
export function createPostgresProducer<Data extends object>(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  { timeoutMs, log }: ProducerOptions,
): Producer<Data> {
  const onError = createErrorLog(log, name)
  // A queue that was made while its server was down never recovers, so it is made anew.
  const connected = lazily(() => connect(server, name, timeoutMs, onError))
  /** Whether a call has failed since one last succeeded. Its statement may still run. */
  let isInDoubt = true

  // No time limit of Postgres ends a commit that hangs, as each does while a synchronous standby is away, and the connection
  // stays taken after it was given up. Another such call would take one more, until the server has none left for anybody.
  async function attempt<Result>(work: (connection: Connected) => Promise<Result>): Promise<Result> {
    const connection = await connected.get()
    if (isInDoubt) await expectNothingStuck(connection.pool, timeoutMs)
    return work(connection)
  }

  async function within<Result>(work: (connection: Connected) => Promise<Result>): Promise<Result> {
    try {
      const result = await withTimeout(
        attempt(work),
        timeoutMs,
        `the ${name} queue did not answer within ${timeoutMs} ms`,
      )
      isInDoubt = false
      return result
    } catch (error) {
      isInDoubt = true
      throw error
    }
  }

  return {
    add: (id, data) => within(async ({ queue }) => void (await queue.add(name, data, { jobId: id }))),
    // Only a server that takes writes gives out a transaction id: a standby rejects this.
    probe: () => within(async ({ pool }) => void (await pool.query('select pg_current_xact_id()'))),
    // With a full disk Postgres refuses new jobs and lets workers go on: nothing needs to stop early.
    memoryUsage: async () => 0,
    detectLoss: createTellLosses((onLoss) => within(({ detectLoss }) => detectLoss().then(onLoss))),
    identity: () => within(({ pool }) => postgresIdentity(pool)),
    waiting: () => within(({ queue }) => countWaiting(queue)),
    state: () => within(({ queue, pool }) => stateOf(queue, () => oldestAddedAt(pool, name))),
    close: async () => (await connected.current())?.close(),
  }
}

async function connect(
  server: QueueServer & { kind: 'postgres' },
  name: QueueName,
  timeoutMs: number,
  onError: (error: Error) => void,
): Promise<Connected> {
  const connection = {
    Client: SafeClient,
    ...serverConfig(server.url),
    application_name: `ringback ${name} producer`,
    keepAlive: true,
    connectionTimeoutMillis: timeoutMs,
    // Gives up on a connection that is dead. Callers have time limits of their own, which a process that was itself held up
    // meets after it has read what has come meanwhile; this one would come first.
    query_timeout: 2 * timeoutMs,
    statement_timeout: timeoutMs,
  }
  const queue = new PostgresBacked.Queue(name, {
    ...queueOptions(name),
    connection: { ...connection, max: QUEUE_POOL },
  })
  queue.on('error', onError)
  const pool = new Pool({ ...connection, max: OWN_POOL })
  // Without a listener an idle connection that the server ends would end the process.
  pool.on('error', onError)
  const close = async () => {
    await queue.close()
    await pool.end()
  }
  try {
    await queue.waitUntilReady()
    return { queue, pool, detectLoss: createPostgresLossDetector(pool), close }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

/** How much of a time limit a statement must have run to count as given up: it began later than the call. */
const STUCK_PART = 0.5

/** Rejects if a producer's statement has run for long. One that waits for its client may be a large job on its way. */
async function expectNothingStuck(pool: Pool, timeoutMs: number): Promise<void> {
  const { rows } = await pool.query<{ event: string }>(
    `select wait_event as event from pg_stat_activity
    where application_name = current_setting('application_name') and datname = current_database()
      and usename = session_user and pid <> pg_backend_pid()
      and state = 'active' and wait_event <> 'ClientRead'
      and query_start < clock_timestamp() - $1 * interval '1 ms' limit 1`,
    [timeoutMs * STUCK_PART],
  )
  if (rows[0] !== undefined)
    throw new Error(`Postgres does not end what it was asked before: it waits for ${rows[0].event}`)
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
