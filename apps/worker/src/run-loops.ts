import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Producer } from '@ringback/core/queue'
import type { Sql } from '@ringback/core/store/connect'
import { ensurePartitions } from '@ringback/core/store/partitions'
import { unsafeDatabaseSettings } from '@ringback/core/store/unsafe-settings'
import { createEvaluateAlerts } from './alerts/evaluate-alerts.ts'
import { buryWithoutHandler } from './bury-without-handler.ts'
import type { AttemptCounter } from './count-attempts.ts'
import type { Scanner } from './due-deliveries.ts'
import type { Hands } from './hands.ts'
import { beat, probePostgres } from './heartbeat.ts'
import { createDetectLosses } from './queue-losses.ts'
import { createRetention, DEFAULT_RETENTION } from './retention.ts'
import { runWatchdog } from './watchdog.ts'
import type { WorkerOptions } from './worker.ts'

export interface LoopDependencies extends Pick<
  WorkerOptions,
  'config' | 'databaseUrl' | 'retention' | 'monitoringIntervalMs' | 'onStuck' | 'log'
> {
  sql: Sql
  producers: Record<'store' | 'deliveries', Pick<Producer<object>, 'state' | 'probe' | 'detectLoss' | 'identity'>>
  hands: Record<'store' | 'deliveries', Hands>
  stuckAfterMs: number
  scanner: Scanner
  attemptCounter: AttemptCounter
  /** Called for dead letters of handlers that have gone from the configuration. */
  onDead: (handler: string, count: number) => void
  connections: { connectionsPerWorker: number; workerPool: number }
  signal: AbortSignal
}

const SCAN_INTERVAL_MS = 1000
const MAINTENANCE_INTERVAL_MS = 60_000
const SETTINGS_INTERVAL_MS = 3_600_000
const MONITORING_INTERVAL_MS = 5000
/** How many rows `fold_event_counts` moves at most. */
const FOLDED_AT_ONCE = 10_000

/** What a worker does at intervals, beside its jobs. Resolves when `signal` has fired and all of it has ended. */
export async function runLoops(deps: LoopDependencies): Promise<void> {
  const { sql, config, databaseUrl, producers, hands, scanner, attemptCounter, onDead, log, signal } = deps
  const { retention = DEFAULT_RETENTION, monitoringIntervalMs = MONITORING_INTERVAL_MS } = deps
  const ownName = `${hostname()}:${process.pid}`
  const queueAgeMs = async () => (await producers.store.state()).oldestAgeMs

  await Promise.all([
    repeat('scan', SCAN_INTERVAL_MS, async () => {
      while (!signal.aborted && (await scanner.scan()).more);
    }).then(scanner.finish),
    repeat('maintenance', MAINTENANCE_INTERVAL_MS, async () => {
      await beat(sql, ownName)
      await ensurePartitions(sql)
      while (!signal.aborted && (await foldEventCounts(sql)) === FOLDED_AT_ONCE);
      await buryWithoutHandler({ sql, handlers: config.handlers, onDead, log, signal })
    }),
    repeat('settings', SETTINGS_INTERVAL_MS, async () => {
      for (const setting of await unsafeDatabaseSettings(sql, deps.connections)) log.warn(setting, 'database.unsafe')
    }),
    repeat('retention', MAINTENANCE_INTERVAL_MS, createRetention({ databaseUrl, retention, log })),
    repeat('counts', monitoringIntervalMs, attemptCounter.flush),
    repeat('alerts', monitoringIntervalMs, createEvaluateAlerts({ sql, config, queueAgeMs, log })),
    repeat(
      'losses',
      monitoringIntervalMs,
      createDetectLosses({ sql, producers: Object.values(producers), worker: ownName, log }),
    ),
    runWatchdog({
      queues: (['store', 'deliveries'] as const).map((name) => ({
        name,
        state: producers[name].state,
        hands: hands[name],
      })),
      probe: () => Promise.all([producers.store.probe(), probePostgres(databaseUrl, ownName)]),
      stuckAfterMs: deps.stuckAfterMs,
      exit: deps.onStuck,
      log,
      signal,
    }),
  ])

  /** Runs `work` again and again until `signal` fires. A failure is logged, and the next run tries again. */
  async function repeat(name: string, intervalMs: number, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      await work().catch((error: Error) => log.warn({ error: error.message }, `${name}.failed`))
      await sleep(intervalMs, undefined, { signal }).catch(() => undefined) // ends the pause, not the loop's last turn
    }
  }
}

/** Resolves to how many rows it moved: none also while another worker folds. */
async function foldEventCounts(sql: Sql): Promise<number> {
  const [row] = await sql<{ folded: number }[]>`select fold_event_counts()::float8 as folded`
  return row!.folded
}
