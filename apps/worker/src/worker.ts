import { randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeliveriesJob, StoreJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import { createConsumer, createProducer } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { ensurePartitions, migrationProblem } from '@ringback/core/store/migrate'
import type { Tracing } from '@ringback/core/tracing'
import { createEvaluateAlerts } from './alerts/evaluate-alerts.ts'
import { createAttemptCounter } from './count-attempts.ts'
import { buryWithoutHandler, enqueueDueDeliveries } from './due-deliveries.ts'
import { createWorkerMetrics } from './metrics.ts'
import { createRunDeliveries } from './run-deliveries.ts'
import type { FinishedAttempt } from './run-deliveries.ts'
import { createStoreEvents } from './store-events.ts'

export interface WorkerOptions {
  config: Config
  databaseUrl: string
  queue: QueueServer
  /** Where its metrics go; one of its own where it is left out. */
  registry?: Registry
  /** Where it tells of groups and attempts, if anybody wants traces. */
  tracing?: Tracing | undefined
  log: Logger
  /** Groups stored at the same time. */
  concurrency?: number
  /** How often attempts that were counted are written, and how often it is looked for what is an alert. */
  monitoringIntervalMs?: number
  /** Ends a start that is waiting. */
  stopping?: AbortSignal
}

export interface Worker {
  /** Whether Postgres and the queue answer. */
  ready: () => Promise<boolean>
  /** Finishes the jobs in hand. */
  close: () => Promise<void>
}

const DEFAULT_CONCURRENCY = 8
/** They mostly wait for others; what Postgres can bear is limited by the pool. */
const DELIVERIES_CONCURRENCY = 64
const SCAN_INTERVAL_MS = 1000
const MAINTENANCE_INTERVAL_MS = 60_000
const MONITORING_INTERVAL_MS = 5000
const QUEUE_TIMEOUT_MS = 2000

/** Stores what ingest enqueued and runs the handlers. Waits for Postgres and its migrations before it begins. */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const { config, log, queue, tracing } = options
  const concurrency = options.concurrency ?? DEFAULT_CONCURRENCY
  const closing = new AbortController()
  const { signal } = closing
  const starting = options.stopping ?? signal
  const sql = connect(options.databaseUrl, { max: concurrency + 3, applicationName: 'ringback worker' })

  await untilMigrated()

  const deliveriesQueue = createProducer<DeliveriesJob>(queue, 'deliveries', { timeoutMs: QUEUE_TIMEOUT_MS, log })
  const storeQueue = createProducer<StoreJob>(queue, 'store', { timeoutMs: QUEUE_TIMEOUT_MS, log })
  const queues = { store: storeQueue.state, deliveries: deliveriesQueue.state }
  const metrics = createWorkerMetrics(options.registry ?? createRegistry(), { sql, queues })
  const enqueueDeliveries = (job: DeliveriesJob) => deliveriesQueue.add(`deliveries-${randomUUIDv7()}`, job)
  const storeEvents = createStoreEvents({
    sql,
    handlers: config.handlers,
    enqueueDeliveries,
    onStored: metrics.onStored,
    tracing,
    log,
    signal,
  })
  const limited = new Set(config.handlers.filter(({ limits }) => limits !== undefined).map(({ name }) => name))
  const attemptCounter = createAttemptCounter({ sql, limited })
  const onAttempt = (attempt: FinishedAttempt) => {
    attemptCounter.count(attempt)
    metrics.onAttempt(attempt)
  }
  const queueAgeMs = async () => (await storeQueue.state()).oldestAgeMs
  const monitoringIntervalMs = options.monitoringIntervalMs ?? MONITORING_INTERVAL_MS
  const deliveryRunner = await createRunDeliveries({
    sql,
    config,
    random: Math.random,
    log,
    signal,
    onAttempt,
    tracing,
  })
  const consume = { concurrency, log, stopping: starting }
  const consumers = [
    await createConsumer(queue, 'store', consume, storeEvents),
    await createConsumer(
      queue,
      'deliveries',
      { ...consume, concurrency: DELIVERIES_CONCURRENCY },
      deliveryRunner.process,
    ),
  ]
  const loops = [
    repeat('scan', SCAN_INTERVAL_MS, async () => {
      const { isFull } = deliveryRunner
      const { waiting: waitingJobs } = deliveriesQueue
      const scan = { sql, handlers: config.handlers, enqueueDeliveries, waitingJobs, isFull, log }
      while (!signal.aborted && (await enqueueDueDeliveries(scan)).more);
    }),
    repeat('maintenance', MAINTENANCE_INTERVAL_MS, async () => {
      await ensurePartitions(sql)
      await buryWithoutHandler({ sql, handlers: config.handlers, log })
      await sql`delete from store_groups where stored_at < now() - interval '7 days'`
      await sql`delete from nonces where received_at < now() - interval '90 days'`
      await sql`delete from source_minutes where minute < now() - interval '30 days'`
      await sql`delete from delivery_minutes where minute < now() - interval '30 days'`
    }),
    repeat('counts', monitoringIntervalMs, attemptCounter.flush),
    repeat('alerts', monitoringIntervalMs, createEvaluateAlerts({ sql, config, queueAgeMs, log })),
  ]
  log.info({ handlers: config.handlers.map(({ name }) => name) }, 'worker.started')

  return {
    ready: () =>
      Promise.all([sql`select 1`, deliveriesQueue.probe()]).then(
        () => true,
        () => false,
      ),
    async close() {
      closing.abort()
      await Promise.all(loops)
      await Promise.all(consumers.map((consumer) => consumer.close()))
      await deliveryRunner.close()
      await attemptCounter.flush().catch((error: Error) => log.warn({ error: error.message }, 'counts.lost'))
      await deliveriesQueue.close()
      await storeQueue.close()
      await sql.end({ timeout: 5 })
      log.info('worker.closed')
    },
  }

  async function untilMigrated(): Promise<void> {
    for (;;) {
      const problem = await migrationProblem(sql).catch((error: Error) => error.message)
      if (problem === undefined) return
      log.warn({ problem }, 'worker.waiting')
      await sleep(1000, undefined, { signal: starting })
    }
  }

  /** Runs `work` again and again until the worker stops; what fails is logged and tried the next time. */
  async function repeat(name: string, intervalMs: number, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      await work().catch((error: Error) => log.warn({ error: error.message }, `${name}.failed`))
      await sleep(intervalMs, undefined, { signal }).catch(() => undefined) // ends the pause, not the loop's last turn
    }
  }
}
