import { z } from 'zod'
import { ConfigError, loadConfig, parseEnvironment } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { variables } from '@ringback/core/service'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { drizzle } from 'drizzle-orm/postgres-js'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { explainPostgresError } from './explain-postgres-error.ts'
import { assertProgramVariables } from './program-variables.ts'

const Variables = z.object({
  // What `npm start` runs, so that the commands in the README work beside it as they stand.
  DATABASE_URL: variables.databaseUrl.default('postgres://ringback:ringback@127.0.0.1:5433/ringback'),
  REDIS_URL: variables.redisUrl,
  RINGBACK_CONFIG: variables.configFile,
})

/** Where this command finds its servers and its configuration. Throws one error that lists every problem. */
export function readEnvironment(): z.infer<typeof Variables> {
  return parseEnvironment(Variables, process.env)
}

/** The configuration that ingest and worker would load with this environment. */
export async function readConfig(): Promise<Config> {
  const { RINGBACK_CONFIG: file } = parseEnvironment(Variables.pick({ RINGBACK_CONFIG: true }), process.env)
  return loadConfig(file, process.env)
}

/** The same. Throws one error that lists what is wrong with it, and with the variables of ingest, worker and standalone. */
export async function checkConfig(): Promise<Config> {
  const problems: string[] = []
  const collect = (error: unknown) => {
    if (!(error instanceof ConfigError)) throw error
    problems.push(...error.problems)
  }
  const config = await readConfig().catch(collect)
  try {
    assertProgramVariables(process.env, config ?? undefined)
  } catch (error) {
    collect(error)
  }
  if (config === undefined || problems.length > 0) throw new ConfigError([...new Set(problems)])
  return config
}

/** What a person waits for, over all partitions. */
const COMMAND_STATEMENT_MS = 300_000

/** Runs `work` with a connection to the database, and closes it. No statement takes longer than `longestStatementMs`. */
export async function withSql<Result>(
  work: (sql: Sql) => Promise<Result>,
  longestStatementMs = COMMAND_STATEMENT_MS,
): Promise<Result> {
  const url = readEnvironment().DATABASE_URL
  const sql = connect(url, { max: 1, applicationName: 'ringback cli', longestStatementMs })
  try {
    return await work(sql)
  } catch (error) {
    throw explainPostgresError(error, url)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** The same with drizzle's query builder. */
export function withDatabase<Result>(work: (database: PostgresJsDatabase) => Promise<Result>): Promise<Result> {
  return withSql((sql) => work(drizzle(sql)))
}
