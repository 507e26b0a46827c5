import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { parseDatabaseUrl } from './database-url.ts'
import { problemOf } from './problem-of.ts'
import { parseRedisUrl } from './queue/redis-url.ts'
import { MAX_STORE_SHARDS } from './queue/shards.ts'

// How the variables of a process are read and checked.

/** A process's environment; tests pass their own. */
export type Environment = Record<string, string | undefined>

/** Reports a problem, in words that show no value. */
export type Problem = (text: string) => void

/**
 * Checks `environment` against `schema`, whose keys are the variables' names. An empty or blank variable counts as unset,
 * and `<NAME>_FILE` may name a file that holds the value. Throws one error that lists every problem and shows no value.
 */
export function parseEnvironment<Schema extends z.ZodObject>(
  schema: Schema,
  environment: Environment,
): z.infer<Schema> {
  const problems: string[] = []
  const values = Object.fromEntries(
    Object.keys(schema.shape).map((name) => [name, readVariable(environment, name, (text) => problems.push(text))]),
  )
  const parsed = schema.safeParse(values, { error: variableError })
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`))
  if (problems.length > 0) throw new ConfigError(problems)
  return parsed.data as z.infer<Schema>
}

/** What is wrong with a variable where its schema has no text of its own. */
function variableError(issue: { code?: string; input: unknown; expected?: string }): string | undefined {
  const { code, input, expected } = issue
  if (input === undefined) return 'is not set'
  return code === 'invalid_type' && expected === 'number' ? 'must be a number' : undefined
}

/** The value of a variable, or the content of the file that `<name>_FILE` names. Undefined if it is unset or blank. */
export function readVariable(environment: Environment, name: string, problem: Problem): string | undefined {
  const value = unlessBlank(environment[name])
  if (value !== undefined) return value
  const file = unlessBlank(environment[`${name}_FILE`])
  if (file === undefined) return undefined
  try {
    return unlessBlank(readFileSync(file, 'utf8').replace(/\r?\n$/, ''))
  } catch (error) {
    problem(`${name}_FILE names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`)
    return undefined
  }
}

/** Blanks alone count as no value: anybody would guess such a secret. */
function unlessBlank(text: string | undefined): string | undefined {
  return text?.trim() ? text : undefined
}

/** All that is wrong with a configuration, by name and without values. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      `The configuration has problems; docs/configuration.md describes every value\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
    )
    this.problems = problems
  }
}

/** `error` says what the value must be, whatever is wrong with it. */
function number(error: string, isRight: (value: number) => boolean) {
  return z.coerce.number({ error }).refine(isRight, { error })
}

function wholeNumber(min: number, max: number, error = `must be a whole number from ${min} to ${max}`) {
  return number(error, (value) => Number.isInteger(value) && value >= min && value <= max)
}

/** A URL that `parse` can read; otherwise it throws what is wrong. */
function url(parse: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    const problem = problemOf(() => parse(text))
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  })
}

/** Variables that say where the queue is, if that is Redis. */
export const queueVariables = {
  REDIS_URL: url(parseRedisUrl).optional(),
  STORE_SHARDS: wholeNumber(1, MAX_STORE_SHARDS).default(1),
  REDIS_WAIT_REPLICAS: wholeNumber(0, 10).default(0),
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const

/** Variables that mean the same in each process; docs/configuration.md describes them. */
export const variables = {
  port: wholeNumber(0, 65_535),
  logLevel: z.enum(LEVELS, { error: `must be one of ${LEVELS.join(', ')}` }).default('info'),
  configFile: z.string().default('ringback.config.ts'),
  databaseUrl: url(parseDatabaseUrl),
  opsHost: z.string().default('127.0.0.1'),
  spoolDir: z.string().optional(),
  spoolMaxBytes: wholeNumber(
    1024 ** 2,
    Number.MAX_SAFE_INTEGER,
    'must be a whole number, at least 1048576 (1 MiB)',
  ).default(1024 ** 3),
  shutdownDelayMs: wholeNumber(0, 60_000).default(5000),
  workerConcurrency: wholeNumber(1, 100).default(8),
  // Not 0, with which the system would choose one: others must find it.
  embeddedPostgresPort: wholeNumber(1, 65_535).default(5433),
  stuckAfterSeconds: number('must be a number from 10 to 86400', (value) => value >= 10 && value <= 86_400).default(60),
}
