import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseEnvironment, queueVariables, variables as known } from '@ringback/core/environment'
import { collectSeldom } from '@ringback/core/heap'
import { createLogger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import { lowerHelperPriority } from '@ringback/core/priority'
import { migrateQueue, queueServer } from '@ringback/core/queue'
import { listenForOperators, runService } from '@ringback/core/service'
import type { Service } from '@ringback/core/service'
import { loadStandaloneConfig } from '@ringback/core/standalone'
import { connect, LONG_WORK_MS } from '@ringback/core/store/connect'
import { explainPostgresError } from '@ringback/core/store/explain-postgres-error'
import { migrate } from '@ringback/core/store/migrate'
import { startTracing } from '@ringback/core/tracing'
import { createIngest, safeHostname } from '@ringback/ingest/ingest'
import { logStrayRejections } from '@ringback/worker/stray-rejections'
import { retentionOf, retentionVariables } from '@ringback/worker/retention'
import { createWorker } from '@ringback/worker/worker'
import { startPostgres } from './embedded-postgres.ts'
import { greeting } from './greeting.ts'

// All of Ringback in one process, on an embedded Postgres unless DATABASE_URL names another: to try it, to develop it,
// and for installations that one machine can carry.

const Variables = z.object({
  PORT: known.port.default(3000),
  HOST: z.string().default('0.0.0.0'),
  OPS_PORT: known.port.default(9464),
  OPS_HOST: known.opsHost,
  EMBEDDED_POSTGRES_PORT: known.embeddedPostgresPort,
  RINGBACK_DATA_DIR: z.string().optional(),
  DATABASE_URL: known.databaseUrl.optional(),
  ...queueVariables,
  RINGBACK_CONFIG: known.configFile,
  ROOT_SOURCE: z.string().optional(),
  SPOOL_DIR: known.spoolDir,
  SPOOL_MAX_BYTES: known.spoolMaxBytes,
  LOG_LEVEL: known.logLevel,
  ...retentionVariables,
})

/** How long everything may take to end when the worker is stuck. What takes longer is left. */
const STUCK_CLOSE_MS = 15_000

lowerHelperPriority()
collectSeldom()
logStrayRejections()

await runService(async (stopping) => {
  const environment = parseEnvironment(Variables, process.env)
  const log = createLogger('standalone', environment.LOG_LEVEL)
  const { config, environment: variables } = await loadStandaloneConfig(environment.RINGBACK_CONFIG, process.env)

  /** What has been started. It is closed in the opposite order. */
  const started: Service[] = []
  const close = async () => {
    for (const service of started.splice(0).toReversed()) await service.close()
  }
  // The embedded Postgres is ended in good order, or the next start would have to wait for it.
  const endStuck = () => {
    setTimeout(() => process.exit(1), STUCK_CLOSE_MS).unref()
    void close().finally(() => process.exit(1))
  }
  try {
    let databaseUrl = environment.DATABASE_URL
    let spoolDir = environment.SPOOL_DIR
    if (databaseUrl === undefined) {
      const postgres = await startPostgres({
        dataDir: environment.RINGBACK_DATA_DIR,
        port: environment.EMBEDDED_POSTGRES_PORT,
        keepsRunning: true,
      })
      started.push({ close: postgres.stop })
      databaseUrl = postgres.url
      spoolDir ??= join(postgres.dataDir, 'spool')
    }
    const queue = queueServer({ ...environment, DATABASE_URL: databaseUrl })
    const sql = connect(databaseUrl, {
      max: 1,
      applicationName: 'ringback migrate',
      longestStatementMs: LONG_WORK_MS,
    })
    try {
      await migrate(sql).finally(() => sql.end())
      await migrateQueue(queue)
    } catch (error) {
      throw explainPostgresError(error, databaseUrl)
    }

    const registry = createRegistry()
    const tracing = await startTracing('ringback-standalone', log)
    if (tracing !== undefined) started.push(tracing)
    const worker = await createWorker({
      config,
      databaseUrl,
      queue,
      registry,
      tracing,
      log: createLogger('worker', environment.LOG_LEVEL),
      retention: retentionOf(environment),
      stopping,
      onStuck: endStuck,
    })
    started.push(worker)
    spoolDir ??= join(environment.RINGBACK_DATA_DIR ?? '.ringback', 'spool')
    const ingest = await createIngest({
      config,
      queue,
      spool: { dir: spoolDir, maxBytes: environment.SPOOL_MAX_BYTES },
      registry,
      tracing,
      log: createLogger('ingest', environment.LOG_LEVEL),
      hostname: safeHostname(config, environment.HOST, log),
      port: environment.PORT,
      rootSource: environment.ROOT_SOURCE,
    })
    started.push(ingest)
    const ready = async () => (await Promise.all([ingest.ready(), worker.ready()])).every(Boolean)
    const { OPS_HOST: hostname, OPS_PORT: port } = environment
    started.push(await listenForOperators({ hostname, port, ready, registry, log }))
    console.log(
      greeting({ config, port: ingest.port, databaseUrl, environment: variables, hasEnvFile: existsSync('.env') }),
    )
    return { close }
  } catch (error) {
    await close()
    throw error
  }
})
