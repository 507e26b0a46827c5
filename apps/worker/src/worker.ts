import { randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeliveriesJob, StoreJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import { consumerConnections, createConsumer, createProducer, producerConnections } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { closeWithin } from '@ringback/core/service'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { migrationProblem } from '@ringback/core/store/migrate'
import type { Tracing } from '@ringback/core/tracing'
import { createAttemptCounter } from './count-attempts.ts'
import { addDestinations, forgetLimits } from './destinations-table.ts'
import { createScanner } from './due-deliveries.ts'
import { createHands } from './hands.ts'
import { createWorkerMetrics } from './metrics.ts'
import { createReady } from './readiness.ts'
import type { Retention } from './retention.ts'
import { createRunDeliveries } from './run-deliveries.ts'
import { runLoops } from './run-loops.ts'
import { createStoreEvents } from './store-events.ts'
import { createUntilItSucceeds } from './until-it-succeeds.ts'

export interface WorkerOptions {
  config: Config
  databaseUrl: string
  queue: QueueServer
  /** The registry for its metrics. Default: one of its own. */
  registry?: Registry
  /** Makes spans for groups and attempts. Undefined: there are no traces. */
  tracing?: Tracing | undefined
  log: Logger
  /** How many rounds of groups are stored at the same time. */
  concurrency?: number
  /** How long things are kept. */
  retention?: Retention
  /** How often counts of attempts are written, alerts evaluated, and losses of the queue looked for. */
  monitoringIntervalMs?: number
  /** See connect.ts. */
  longestStatementMs?: number
  /** How long a group that cannot be stored, while others can, goes back to the queue. */
  postponedMs?: number
  /** How long nothing may move, while there is work and nothing hinders it, before the worker counts as stuck. */
  stuckAfterMs?: number
  /** Called once, when the worker is stuck; must end the process with a code that is not 0. */
  onStuck: () => void
  /** Ends a start that is waiting. */
  stopping?: AbortSignal
}

export interface Worker {
  /** Whether Postgres and the queue answer. */
  ready: () => Promise<boolean>
  /**
   * Takes no more jobs, and finishes what it can of those in hand within 10 s. Deliveries that have not begun go back at
   * once, and attempts that take longer are left to their leases. Takes at most 12 s, whatever is down.
   */
  close: () => Promise<void>
}

const DEFAULT_CONCURRENCY = 8
/** The least time between two rounds under load, so that each stores more. After a pause, a callback is stored at once. */
const ROUND_INTERVAL_MS = 30
/** Deliveries jobs mostly wait for destinations. */
const DELIVERIES_CONCURRENCY = 64
/** How many deliveries jobs use Postgres at a time: in a pool of their own, because some wait for a row that is locked. */
const DELIVERIES_POOL = 8
const START_INTERVAL_MS = 1000
const QUEUE_TIMEOUT_MS = 2000
const READY_TIMEOUT_MS = 2000
/** Longer than a statement may take, which is 30 s. */
const STUCK_AFTER_MS = 60_000
/** As long as a handler may take by default; what follows has its own time within the 15 s that a process has to end. */
const FINISH_MS = 10_000

/**
 * Stores what ingest enqueued and runs the handlers. Waits for Postgres and its migrations before it begins. Rejects as
 * soon as `stopping` fires during the start: it has nothing in hand then that another worker would not take up.
 */
export function createWorker(options: WorkerOptions): Promise<Worker> {
  const { stopping } = options
  return stopping === undefined ? startWorker(options) : Promise.race([startWorker(options), abortOf(stopping)])
}

function abortOf(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { config, databaseUrl, longestStatementMs, log, queue, tracing } = options
  const concurrency = options.concurrency ?? DEFAULT_CONCURRENCY
  const closing = new AbortController()
  const { signal } = closing
  const starting = options.stopping ?? signal
  // Postgres may be down, lack migrations, or take no writes.
  const pause = () => sleep(START_INTERVAL_MS, undefined, { signal: starting })
  const untilItSucceeds = createUntilItSucceeds({ log, pause })
  const ownPool = concurrency + 3
  const workerPool = ownPool + DELIVERIES_POOL
  const connectPool = (max: number) =>
    connect(databaseUrl, { max, applicationName: 'ringback worker', longestStatementMs })
  const sql = connectPool(ownPool)
  const deliveriesSql = connectPool(DELIVERIES_POOL)

  await untilItSucceeds(() => assertMigrated(sql))

  const deliveriesQueue = createProducer<DeliveriesJob>(queue, 'deliveries', { timeoutMs: QUEUE_TIMEOUT_MS, log })
  const storeQueue = createProducer<StoreJob>(queue, 'store', { timeoutMs: QUEUE_TIMEOUT_MS, log })
  const handlers = config.handlers.map(({ name }) => name)
  const metrics = createWorkerMetrics(options.registry ?? createRegistry(), {
    sql,
    queues: { store: storeQueue.state, deliveries: deliveriesQueue.state },
    handlers,
  })
  const stuckAfterMs = options.stuckAfterMs ?? STUCK_AFTER_MS
  const hands = {
    store: createHands(concurrency, stuckAfterMs),
    deliveries: createHands(DELIVERIES_CONCURRENCY, stuckAfterMs),
  }
  const enqueueDeliveries = (job: DeliveriesJob) => deliveriesQueue.add(`deliveries-${randomUUIDv7()}`, job)
  const storeEvents = createStoreEvents({
    sql,
    handlers: config.handlers,
    enqueueDeliveries,
    onStored: metrics.onStored,
    onAnswer: hands.store.move,
    onPostponed: metrics.onPostponed,
    postponedMs: options.postponedMs,
    tracing,
    log,
    signal,
  })
  const limited = new Set(config.handlers.filter(({ limits }) => limits !== undefined).map(({ name }) => name))
  const unlimited = handlers.filter((name) => !limited.has(name))
  const attemptCounter = createAttemptCounter({ sql, limited })
  await untilItSucceeds(async () => {
    await addDestinations(sql, [...limited])
    await forgetLimits(sql, unlimited)
  })
  const deliveryRunner = createRunDeliveries({
    sql: deliveriesSql,
    config,
    random: Math.random,
    log,
    signal,
    onAttempt(attempt) {
      attemptCounter.count(attempt)
      metrics.onAttempt(attempt)
    },
    tracing,
  })
  const runDeliveries = (data: unknown, goesFirst = false) =>
    hands.deliveries.take((mayTake) => deliveryRunner.process(data, mayTake, goesFirst))
  const scanner = createScanner({
    sql,
    handlers: config.handlers,
    enqueueDeliveries,
    runDeliveries: (job) => runDeliveries(job, true),
    waitingJobs: deliveriesQueue.waiting,
    isFull: deliveryRunner.isFull,
    onDead: metrics.onDead,
    log,
  })
  const consume = { concurrency, log, stopping: starting }
  const consumers = [
    await createConsumer(queue, 'store', consume, {
      intervalMs: ROUND_INTERVAL_MS,
      processRound(jobs) {
        const stored = storeEvents(jobs)
        void hands.store.take(() => Promise.allSettled(stored))
        return stored
      },
    }),
    await createConsumer(queue, 'deliveries', { ...consume, concurrency: DELIVERIES_CONCURRENCY }, ({ data }) =>
      runDeliveries(data),
    ),
  ]
  const loops = runLoops({
    ...options,
    sql,
    producers: { store: storeQueue, deliveries: deliveriesQueue },
    hands,
    stuckAfterMs,
    scanner,
    attemptCounter,
    onDead: metrics.onDead,
    connections: { connectionsPerWorker: workerPool + queueConnections(queue, concurrency), workerPool },
    signal,
  })
  log.info({ handlers }, 'worker.started')

  return {
    ready: createReady([async () => void (await sql`select 1`), () => deliveriesQueue.probe()], READY_TIMEOUT_MS),
    async close() {
      closing.abort()
      const jobs = [loops, ...consumers.map((consumer) => consumer.close())]
      await closeWithin({ ms: FINISH_MS, part: 'jobs', log }, () => Promise.all(jobs))
      const left = deliveryRunner.running()
      if (left > 0) log.warn({ count: left }, 'attempts.left')
      await Promise.all([
        closeWithin({ ms: 1000, part: 'handlers', log }, deliveryRunner.close),
        closeWithin({ ms: 1000, part: 'counts', log }, attemptCounter.flush),
      ])
      await Promise.all([
        closeWithin({ ms: 1000, part: 'deliveries queue', log }, deliveriesQueue.close),
        closeWithin({ ms: 1000, part: 'store queue', log }, storeQueue.close),
        sql.end({ timeout: 1 }),
        deliveriesSql.end({ timeout: 1 }),
      ])
      log.info('worker.closed')
    },
  }
}

async function assertMigrated(sql: Sql): Promise<void> {
  const problem = await migrationProblem(sql)
  if (problem !== undefined) throw new Error(problem)
}

/** How many connections a worker may open to the database for its queues. */
function queueConnections(queue: QueueServer, concurrency: number): number {
  const ofConsumers = consumerConnections(queue, concurrency) + consumerConnections(queue, DELIVERIES_CONCURRENCY)
  return ofConsumers + 2 * producerConnections(queue)
}
