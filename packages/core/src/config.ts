import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve as resolvePath } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'
import type { Filter } from './filter.ts'
import type { HandlerAction } from './handlers.ts'
import { addressList } from './providers/access.ts'
import type { Source } from './providers/provider.ts'
import type { OriginSettings } from './providers/request-origin.ts'
import { isBaseUrl } from './providers/source.ts'
import { defaultRetry } from './retry.ts'
import type { RetryPolicy } from './retry.ts'

/** A value that is read from the environment when the configuration is loaded; see {@link env}. */
export interface EnvironmentValue {
  fromEnvironment: string
}

/** A text in the configuration: written there, or taken from the environment. */
export type ConfigText = string | EnvironmentValue

/** The value of the variable `name`, or the content of the file that `<name>_FILE` names, without its last line end. */
export function env(name: string): EnvironmentValue {
  return { fromEnvironment: name }
}

/** What a preset uses to turn its options into values; it collects problems instead of throwing. */
export interface Resolve {
  /** The values of `texts` that are set. */
  optional: (texts: ConfigText | ConfigText[]) => string[]
  /** The set values of each list. Undefined if none is set in any; a problem if one list has none and another has. */
  allOrNone: <Key extends string>(lists: Record<Key, ConfigText[]>) => Record<Key, string[]> | undefined
  /** Whether the URLs that providers call are known: PUBLIC_BASE_URL is set, or there are trusted proxies. */
  knowsPublicUrl: boolean
  /** Reports what is wrong. The text must hold no value from the configuration that may be a secret. */
  problem: (text: string) => void
}

/** A source as a preset describes it, before the environment is known. */
export interface SourceDefinition {
  provider: string
  /** Undefined where the source is off: nothing that it needs is set. */
  resolve: (resolve: Resolve) => Source | undefined
}

/** One handler as it is written in the configuration. */
export interface HandlerDefinition {
  /** Kept in `deliveries.handler`: renaming a handler makes its open deliveries dead letters. */
  name: string
  /** Which events it acts on; every event where it is left out. */
  on?: Filter
  run: HandlerAction
  retry?: Partial<RetryPolicy>
}

export interface ConfigDefinition {
  sources: Record<string, SourceDefinition>
  handlers?: HandlerDefinition[]
  /**
   * Addresses and CIDR ranges of proxies before ingest, whose `X-Forwarded-*` headers are believed. A text may hold
   * several, with commas between them.
   */
  trustedProxies?: ConfigText[]
}

export interface Handler {
  name: string
  on: Filter
  run: HandlerAction
  retry: RetryPolicy
}

/** The configuration with every value in place. Holds secrets: never log it. */
export interface Config {
  sources: ReadonlyMap<string, Source>
  /** Names of sources that are configured but off, because nothing that they need is set. */
  sourcesOff: string[]
  handlers: readonly Handler[]
  /** PUBLIC_BASE_URL and trustedProxies. */
  origin: OriginSettings
  /** By CREDENTIAL_DIGEST_KEY: stands for a credential where it can be compared and not read. */
  credentialDigest: ((credential: string) => string) | undefined
}

/** Types a configuration file; returns it as it is. */
export function defineConfig(config: ConfigDefinition): ConfigDefinition {
  return config
}

/** A process's environment; tests pass their own. */
export type Environment = Record<string, string | undefined>

/**
 * Loads the file at `path` (relative to the working directory) and puts in the values of `environment`.
 * Throws one error that lists every problem and shows no value.
 */
export async function loadConfig(path: string, environment: Environment): Promise<Config> {
  const file = resolvePath(path)
  let loaded: { default?: unknown }
  try {
    loaded = await import(pathToFileURL(file).href)
  } catch (cause) {
    throw new Error(`The configuration ${file} cannot be loaded; RINGBACK_CONFIG names another file`, { cause })
  }
  return resolveConfig(loaded.default, environment)
}

const slug = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be lower-case letters, digits, "-" and "_", for it is part of a URL')

const filter = z.strictObject({
  source: z.union([z.string(), z.array(z.string())]).optional(),
  type: z.union([z.string(), z.array(z.string())]).optional(),
  account: z.union([z.string(), z.array(z.string())]).optional(),
})

const retry = z.strictObject({
  maxAttempts: z.int().min(1).max(1000).default(defaultRetry.maxAttempts),
  firstDelayMs: z.int().min(100).default(defaultRetry.firstDelayMs),
  maxDelayMs: z.int().min(100).default(defaultRetry.maxDelayMs),
})

const definition = z.strictObject({
  sources: z.record(
    slug,
    z.custom<SourceDefinition>(
      (value) => typeof (value as SourceDefinition | undefined)?.resolve === 'function',
      'must be made by a provider, for example voximplant({ ... })',
    ),
  ),
  handlers: z
    .array(
      z.strictObject({
        name: slug,
        on: filter.default({}),
        run: z.custom<HandlerAction>(
          (value) => typeof (value as HandlerAction | undefined)?.kind === 'string',
          'must be made by log({ ... }) or code(...)',
        ),
        retry: retry.prefault({}),
      }),
    )
    .default([]),
  trustedProxies: z.array(z.union([z.string(), z.strictObject({ fromEnvironment: z.string() })])).default([]),
})

/** The same for a configuration that is already loaded. */
export function resolveConfig(loaded: unknown, environment: Environment): Config {
  const parsed = definition.safeParse(loaded)
  if (!parsed.success) {
    throw configError(
      parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the default export'}: ${issue.message}`),
    )
  }
  const problems: string[] = []
  const sources = new Map<string, Source>()
  const sourcesOff: string[] = []
  const problem = (text: string) => void problems.push(text)
  const trustedProxies = createResolve(environment, problem)
    .optional(parsed.data.trustedProxies)
    .flatMap((text) => text.split(',').map((range) => range.trim()))
  const origin = {
    publicBaseUrl: read(environment, 'PUBLIC_BASE_URL', problem),
    trustedProxies: addressList(trustedProxies, (text) => problem(`trustedProxies: ${text}`)),
  }
  if (origin.publicBaseUrl !== undefined && !isBaseUrl(origin.publicBaseUrl)) {
    problems.push('PUBLIC_BASE_URL must begin with https:// or http:// and have no query')
  }
  const digestKey = read(environment, 'CREDENTIAL_DIGEST_KEY', problem)
  const knowsPublicUrl = origin.publicBaseUrl !== undefined || trustedProxies.length > 0
  for (const [name, source] of Object.entries(parsed.data.sources)) {
    const ofSource = createResolve(environment, (text) => problem(`sources.${name}: ${text}`))
    const resolved = source.resolve({ ...ofSource, knowsPublicUrl })
    if (resolved === undefined) sourcesOff.push(name)
    else sources.set(name, resolved)
  }
  const names = parsed.data.handlers.map(({ name }) => name)
  for (const name of new Set(names.filter((candidate, index) => names.indexOf(candidate) !== index))) {
    problems.push(`handlers: two are named "${name}"; a delivery belongs to one of them by its name`)
  }
  if (problems.length > 0) throw configError(problems)
  return {
    sources,
    sourcesOff,
    handlers: parsed.data.handlers,
    origin,
    credentialDigest: digestKey === undefined ? undefined : (text) => `digest:${hmac(digestKey, text)}`,
  }
}

/**
 * Checks `environment` against `schema`, one variable a key; an empty variable counts as unset, and `<NAME>_FILE` may
 * name a file that holds the value. Throws one error that lists every problem and shows no value.
 */
export function parseEnvironment<Schema extends z.ZodObject>(
  schema: Schema,
  environment: Environment,
): z.infer<Schema> {
  const problems: string[] = []
  const values = Object.fromEntries(
    Object.keys(schema.shape).map((name) => [name, read(environment, name, (text) => problems.push(text))]),
  )
  const parsed = schema.safeParse(values)
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`))
  if (problems.length > 0) throw configError(problems)
  return parsed.data as z.infer<Schema>
}

function createResolve(environment: Environment, problem: (text: string) => void): Omit<Resolve, 'knowsPublicUrl'> {
  const value = (text: ConfigText) =>
    typeof text === 'string' ? text : read(environment, text.fromEnvironment, problem)
  const set = (texts: ConfigText[]) => {
    if (texts.includes('')) problem('an empty text is no secret and no name: anybody could use it')
    return texts.map(value).filter((found) => found !== undefined && found !== '') as string[]
  }
  return {
    problem,
    optional: (texts) => set([texts].flat()),
    allOrNone(lists) {
      const found = Object.entries<ConfigText[]>(lists).map(([key, texts]) => ({ key, texts, values: set(texts) }))
      const missing = found.filter(({ values }) => values.length === 0)
      if (missing.length === found.length) return undefined
      for (const { key, texts } of missing) {
        const names = texts.flatMap((text) => (typeof text === 'string' ? [] : [text.fromEnvironment]))
        problem(
          `${names.length > 0 ? `${names.join(' or ')} is not set` : `${key} is empty`}, while other values of the same account are`,
        )
      }
      return Object.fromEntries(found.map(({ key, values }) => [key, values])) as Record<keyof typeof lists, string[]>
    },
  }
}

function read(environment: Environment, name: string, problem: (text: string) => void): string | undefined {
  if (environment[name]) return environment[name]
  const file = environment[`${name}_FILE`]
  if (!file) return undefined
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '') || undefined
  } catch (error) {
    problem(`${name}_FILE names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`)
    return undefined
  }
}

function hmac(key: string, text: string): string {
  return createHmac('sha256', key).update(text).digest('hex')
}

function configError(problems: string[]): Error {
  return new Error(
    `The configuration has problems; docs/configuration.md describes every value\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
  )
}
