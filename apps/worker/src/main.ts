import { z } from 'zod'
import { loadConfig } from '@ringback/core/config'
import { parseEnvironment, queueVariables, variables } from '@ringback/core/environment'
import { createLogger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import { lowerPriority } from '@ringback/core/priority'
import { queueServer } from '@ringback/core/queue'
import { closeWithin, listenForOperators, runService } from '@ringback/core/service'
import { startTracing } from '@ringback/core/tracing'
import { logStrayRejections } from './handlers/stray-rejections.ts'
import { retentionOf, retentionVariables } from './retention.ts'
import { createWorker } from './worker.ts'
import type { Worker } from './worker.ts'

const Environment = z.object({
  DATABASE_URL: variables.databaseUrl,
  ...queueVariables,
  OPS_PORT: variables.port.default(9465),
  OPS_HOST: variables.opsHost,
  WORKER_CONCURRENCY: variables.workerConcurrency,
  STUCK_AFTER_SECONDS: variables.stuckAfterSeconds,
  ...retentionVariables,
  RINGBACK_CONFIG: variables.configFile,
  LOG_LEVEL: variables.logLevel,
})

// Answers wait for ingest and the queue; nobody waits for the worker.
lowerPriority()
logStrayRejections()

await runService(async (stopping) => {
  const environment = parseEnvironment(Environment, process.env)
  const config = await loadConfig(environment.RINGBACK_CONFIG, process.env)
  const log = createLogger('worker', environment.LOG_LEVEL)
  const registry = createRegistry()
  const tracing = await startTracing('ringback-worker', log)
  let worker: Worker | undefined
  // Before the worker, which may have to wait for Postgres: meanwhile the process is live, and not ready.
  const operators = await listenForOperators({
    hostname: environment.OPS_HOST,
    port: environment.OPS_PORT,
    ready: async () => (await worker?.ready()) ?? false,
    registry,
    log,
  })
  worker = await createWorker({
    config,
    tracing,
    databaseUrl: environment.DATABASE_URL,
    queue: queueServer(environment),
    registry,
    log,
    concurrency: environment.WORKER_CONCURRENCY,
    retention: retentionOf(environment),
    stopping,
    stuckAfterMs: environment.STUCK_AFTER_SECONDS * 1000,
    // The supervisor starts another worker. Others take up what this one had in hand, as after a crash.
    onStuck: () => process.exit(1),
  })
  return {
    async close() {
      await worker?.close()
      await closeWithin({ ms: 2000, part: 'traces', log }, () => tracing?.close())
      await operators.close()
    },
  }
})
