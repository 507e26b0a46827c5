import { join } from 'node:path'
import { z } from 'zod'
import { loadConfig } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { parseEnvironment, queueVariables, variables } from '@ringback/core/environment'
import type { Environment } from '@ringback/core/environment'
import { embeddedDatabaseUrl, loadStandaloneConfig } from '@ringback/core/standalone'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { explainPostgresError } from '@ringback/core/store/explain-postgres-error'
import { drizzle } from 'drizzle-orm/postgres-js'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'

const Variables = z.object({
  DATABASE_URL: variables.databaseUrl.optional(),
  ...queueVariables,
  SPOOL_DIR: variables.spoolDir,
  EMBEDDED_POSTGRES_PORT: variables.embeddedPostgresPort,
  RINGBACK_DATA_DIR: z.string().default('.ringback'),
  RINGBACK_CONFIG: variables.configFile,
  PORT: variables.port.default(3000),
})

const DrainVariables = Variables.refine((read) => read.SPOOL_DIR === undefined || !isBesideStandalone(read), {
  path: ['REDIS_URL'],
  message: 'is needed, or DATABASE_URL where the queue is in Postgres: the same as ingest and worker have',
})

/** The variables that decide which configuration is loaded. For that, the servers' URLs need not be valid. */
const ConfigVariables = z.object({
  RINGBACK_CONFIG: variables.configFile,
  DATABASE_URL: z.string().optional(),
  REDIS_URL: z.string().optional(),
})

/**
 * Where this command finds its servers. If neither of them is named, it uses those of `npm start`, so that the commands in
 * the README work beside that as they stand. Throws one error that lists every problem.
 */
export function readEnvironment(environment: Environment = process.env, schema = Variables) {
  const read = parseEnvironment(schema, environment)
  const spoolDir = isBesideStandalone(read) ? join(read.RINGBACK_DATA_DIR, 'spool') : undefined
  return {
    ...read,
    DATABASE_URL: read.DATABASE_URL ?? embeddedDatabaseUrl(read.EMBEDDED_POSTGRES_PORT),
    /** Whether DATABASE_URL was set. */
    isDatabaseNamed: read.DATABASE_URL !== undefined,
    SPOOL_DIR: read.SPOOL_DIR ?? spoolDir,
  }
}

/** The same, but SPOOL_DIR needs a named server, or the spool would be drained into the database of `npm start`. */
export function readDrainEnvironment(environment: Environment = process.env) {
  return readEnvironment(environment, DrainVariables)
}

/** Whether no server is named. Compose's ingest has only REDIS_URL, and is not given the demo credentials. */
function isBesideStandalone(read: { DATABASE_URL?: string | undefined; REDIS_URL?: string | undefined }): boolean {
  return read.DATABASE_URL === undefined && read.REDIS_URL === undefined
}

/** The configuration that the programs would load with this environment. */
export async function readConfig(environment: Environment = process.env): Promise<Config> {
  const read = parseEnvironment(ConfigVariables, environment)
  if (!isBesideStandalone(read)) return loadConfig(read.RINGBACK_CONFIG, environment)
  return (await loadStandaloneConfig(read.RINGBACK_CONFIG, environment)).config
}

/** How long a statement may take for which a person waits, over all partitions. */
const COMMAND_STATEMENT_MS = 300_000

/** Runs `work` with a connection to the database, and closes it. No statement takes longer than `longestStatementMs`. */
export async function withSql<Result>(
  work: (sql: Sql) => Promise<Result>,
  longestStatementMs = COMMAND_STATEMENT_MS,
): Promise<Result> {
  const { DATABASE_URL: url, isDatabaseNamed: isNamed } = readEnvironment()
  const sql = connect(url, { max: 1, applicationName: 'ringback cli', longestStatementMs })
  try {
    return await work(sql)
  } catch (error) {
    throw explainPostgresError(error, url, { isNamed })
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** The same with drizzle's query builder. */
export function withDatabase<Result>(work: (database: PostgresJsDatabase) => Promise<Result>): Promise<Result> {
  return withSql((sql) => work(drizzle(sql)))
}
