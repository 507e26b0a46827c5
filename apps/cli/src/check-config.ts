import { rootSourceProblem } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { ConfigError, parseEnvironment, queueVariables, variables } from '@ringback/core/environment'
import type { Environment } from '@ringback/core/environment'
import { problemOf } from '@ringback/core/problem-of'
import { queueServer } from '@ringback/core/queue'
import { retentionOf, retentionVariables } from '@ringback/worker/retention'
import { z } from 'zod'
import { readConfig } from './environment.ts'

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

/**
 * The configuration that the programs would load with this environment. Throws one ConfigError that lists all problems of it,
 * and why any of the programs would refuse its variables.
 */
export async function checkConfig(environment: Environment = process.env): Promise<Config> {
  const problems = new Set<string>()
  const collect = (error: unknown) => {
    if (!(error instanceof ConfigError)) throw error
    for (const problem of error.problems) problems.add(problem)
    return undefined
  }
  const config = await readConfig(environment).catch(collect)
  const read = await Promise.try(parseEnvironment<typeof ProgramVariables>, ProgramVariables, environment).catch(
    collect,
  )
  for (const problem of read === undefined ? [] : conflicts(read, config)) problems.add(problem)
  if (config === undefined || problems.size > 0) throw new ConfigError([...problems])
  return config
}

/** What is wrong with variables that are right by themselves. */
function conflicts(read: z.infer<typeof ProgramVariables>, config: Config | undefined): string[] {
  const { ROOT_SOURCE: root, DATABASE_URL: databaseUrl } = read
  const ofRoot = root === undefined || config === undefined ? undefined : rootSourceProblem(root, config.sources)
  const ofRetention = problemOf(() => retentionOf(read))
  const ofQueue = databaseUrl === undefined ? undefined : problemOf(() => queueServer(read))
  return [ofRetention, ofRoot, ofQueue].filter((problem) => problem !== undefined)
}
