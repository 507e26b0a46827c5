import { z } from 'zod'
import { loadConfig } from '@ringback/core/config'
import { parseEnvironment, queueVariables, variables } from '@ringback/core/environment'
import { collectSeldom } from '@ringback/core/heap'
import { createLogger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import { lowerHelperPriority } from '@ringback/core/priority'
import { queueServer } from '@ringback/core/queue'
import { closeWithin, listenForOperators, runService } from '@ringback/core/service'
import { startTracing } from '@ringback/core/tracing'
import { createIngest, safeHostname } from './ingest.ts'

const Environment = z.object({
  PORT: variables.port.default(3000),
  HOST: z.string().default('0.0.0.0'),
  OPS_PORT: variables.port.default(9464),
  OPS_HOST: variables.opsHost,
  ...queueVariables,
  DATABASE_URL: variables.databaseUrl.optional(),
  RINGBACK_CONFIG: variables.configFile,
  ROOT_SOURCE: z.string().optional(),
  SPOOL_DIR: variables.spoolDir,
  SPOOL_MAX_BYTES: variables.spoolMaxBytes,
  SHUTDOWN_DELAY_MS: variables.shutdownDelayMs,
  LOG_LEVEL: variables.logLevel,
})

lowerHelperPriority()
collectSeldom()

await runService(async () => {
  const environment = parseEnvironment(Environment, process.env)
  const config = await loadConfig(environment.RINGBACK_CONFIG, process.env, { withHandlers: false })
  const log = createLogger('ingest', environment.LOG_LEVEL)
  const registry = createRegistry()
  const tracing = await startTracing('ringback-ingest', log)
  const { SPOOL_DIR: spoolDir, SPOOL_MAX_BYTES: maxBytes } = environment
  const ingest = await createIngest({
    config,
    tracing,
    queue: queueServer(environment),
    spool: spoolDir === undefined ? undefined : { dir: spoolDir, maxBytes },
    registry,
    log,
    hostname: safeHostname(config, environment.HOST, log),
    port: environment.PORT,
    rootSource: environment.ROOT_SOURCE,
    shutdownDelayMs: environment.SHUTDOWN_DELAY_MS,
  })
  const operators = await listenForOperators({
    hostname: environment.OPS_HOST,
    port: environment.OPS_PORT,
    ready: ingest.ready,
    registry,
    log,
  })
  return {
    // Even with the longest delay, 60 s, this is below the 75 s that docker-compose.yml gives ingest.
    closeDeadlineMs: environment.SHUTDOWN_DELAY_MS + 10_000,
    async close() {
      await ingest.close()
      await closeWithin({ ms: 2000, part: 'traces', log }, () => tracing?.close())
      await operators.close()
    },
  }
})
