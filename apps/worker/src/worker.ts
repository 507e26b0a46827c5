import { randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeliveriesJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { createConsumer, createProducer } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { ensurePartitions, migrationProblem } from '@ringback/core/store/migrate'
import { buryWithoutHandler, enqueueDueDeliveries } from './due-deliveries.ts'
import { createRunDeliveries } from './run-deliveries.ts'
import { createStoreEvents } from './store-events.ts'

export interface WorkerOptions {
  config: Config
  databaseUrl: string
  queue: QueueServer
  log: Logger
  /** Groups stored at the same time, and jobs of deliveries run at the same time. */
  concurrency?: number
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
const SCAN_INTERVAL_MS = 1000
const MAINTENANCE_INTERVAL_MS = 60_000
const QUEUE_TIMEOUT_MS = 2000

/** Stores what ingest enqueued and runs the handlers. Waits for Postgres and its migrations before it begins. */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const { config, log, queue } = options
  const concurrency = options.concurrency ?? DEFAULT_CONCURRENCY
  const closing = new AbortController()
  const { signal } = closing
  const starting = options.stopping ?? signal
  const sql = connect(options.databaseUrl, { max: concurrency + 2, applicationName: 'ringback worker' })

  await untilMigrated()

  const deliveriesQueue = createProducer<DeliveriesJob>(queue, 'deliveries', { timeoutMs: QUEUE_TIMEOUT_MS, log })
  const enqueueDeliveries = (job: DeliveriesJob) => deliveriesQueue.add(`deliveries-${randomUUIDv7()}`, job)
  const storeEvents = createStoreEvents({ sql, handlers: config.handlers, enqueueDeliveries, log, signal })
  const runDeliveries = createRunDeliveries({ sql, config, random: Math.random, log, signal })
  const consume = { concurrency, log, stopping: starting }
  const consumers = [
    await createConsumer(queue, 'store', consume, storeEvents),
    await createConsumer(queue, 'deliveries', consume, runDeliveries),
  ]
  const loops = [
    repeat('scan', SCAN_INTERVAL_MS, async () => {
      const scan = { sql, handlers: config.handlers, enqueueDeliveries, waitingJobs: deliveriesQueue.waiting, log }
      while (!signal.aborted && (await enqueueDueDeliveries(scan)).more);
    }),
    repeat('maintenance', MAINTENANCE_INTERVAL_MS, async () => {
      await ensurePartitions(sql)
      await buryWithoutHandler({ sql, handlers: config.handlers, log })
      await sql`delete from store_groups where stored_at < now() - interval '7 days'`
      await sql`delete from nonces where received_at < now() - interval '90 days'`
    }),
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
      await deliveriesQueue.close()
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
