import { rootSourceProblem } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { ConfigError, parseEnvironment, queueVariables, variables } from '@ringback/core/environment'
import type { Environment } from '@ringback/core/environment'
import { problemOf } from '@ringback/core/problem-of'
import { queueServer } from '@ringback/core/queue'
import { retentionOf, retentionVariables } from '@ringback/worker/retention'
import { z } from 'zod'

/** The variables that ingest, worker and standalone read besides the configuration. Each means the same in all of them. */
const ProgramVariables = z.object({
  DATABASE_URL: variables.databaseUrl.optional(),
  ...queueVariables,
  SPOOL_DIR: variables.spoolDir,
  SPOOL_MAX_BYTES: variables.spoolMaxBytes,
  PORT: variables.port.optional(),
  HOST: z.string().optional(),
  OPS_PORT: variables.port.optional(),
  OPS_HOST: variables.opsHost,
  RINGBACK_DATA_DIR: z.string().optional(),
  EMBEDDED_POSTGRES_PORT: variables.embeddedPostgresPort,
  ROOT_SOURCE: z.string().optional(),
  SHUTDOWN_DELAY_MS: variables.shutdownDelayMs,
  WORKER_CONCURRENCY: variables.workerConcurrency,
  STUCK_AFTER_SECONDS: variables.stuckAfterSeconds,
  LOG_LEVEL: variables.logLevel,
  ...retentionVariables,
})

/** Throws one ConfigError that lists which of these variables any of the programs would refuse, and why. */
export function assertProgramVariables(environment: Environment, config: Pick<Config, 'sources'> | undefined): void {
  const parsed = parseEnvironment(ProgramVariables, environment)
  const { ROOT_SOURCE: root, DATABASE_URL: databaseUrl } = parsed
  const ofRoot = root === undefined || config === undefined ? undefined : rootSourceProblem(root, config.sources)
  const ofRetention = problemOf(() => retentionOf(parsed))
  const ofQueue = databaseUrl === undefined ? undefined : problemOf(() => queueServer(parsed))
  const found = [ofRetention, ofRoot, ofQueue].filter((problem) => problem !== undefined)
  if (found.length > 0) throw new ConfigError(found)
}
