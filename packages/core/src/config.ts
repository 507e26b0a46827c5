import { createHmac } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { resolve as resolvePath } from 'node:path'
import { pathToFileURL } from 'node:url'
import { types } from 'node:util'
import { z } from 'zod'
import { configText } from './checked-options.ts'
import { letsAlertsThrough, OWN_SOURCE, patternsOfNoSource, PROOFS } from './filter.ts'
import { ALERT_KINDS, defaultAlerts } from './alerts.ts'
import type { AlertPolicy } from './alerts.ts'
import type { Filter } from './filter.ts'
import { defaultBreaker } from './handlers.ts'
import type { ActionDefinition, HandlerAction, Limits } from './handlers.ts'
import { addressList } from './providers/access.ts'
import type { Source } from './providers/provider.ts'
import { baseOfCallbackUrl } from './providers/request-origin.ts'
import type { OriginSettings } from './providers/request-origin.ts'
import { isBaseUrl } from './providers/source.ts'
import { defaultRetry, MAX_DELAY_MS } from './retry.ts'
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
  /** The values of each list that are set; undefined if none are. It is a problem if only some lists have any. */
  allOrNone: <Key extends string>(lists: Record<Key, ConfigText[]>) => Record<Key, string[]> | undefined
  /** Whether the URLs that providers call are known: PUBLIC_BASE_URL is set, or there are trusted proxies. */
  knowsPublicUrl: boolean
  /** Reports what is wrong. The text must hold no value from the configuration that may be a secret. */
  problem: (text: string) => void
}

/** What an action uses to turn its options into values; it collects problems instead of throwing. */
export interface ResolveAction {
  /** The value of `text`. If it is unset or empty, a problem that names `option` is reported, and the value is ''. */
  required: (option: string, text: ConfigText) => string
  /** The values of `texts` that are set. */
  optional: Resolve['optional']
  problem: Resolve['problem']
}

/** A source as a preset describes it, before the environment is known. */
export interface SourceDefinition {
  provider: string
  /** Undefined if the source is off, because nothing that it needs is set, or if its options are invalid. */
  resolve: (resolve: Resolve) => Source | undefined
}

/** One handler as it is written in the configuration. */
export interface HandlerDefinition {
  /** Kept in `deliveries.handler`: renaming a handler makes its open deliveries dead letters. */
  name: string
  /** Which events it acts on. If left out: all but Ringback's own, the alerts. */
  on?: Filter
  run: ActionDefinition
  retry?: Partial<RetryPolicy>
  /** Limits that protect its destination. If that is on another machine, a circuit breaker is on by default. */
  limits?: Limits
}

export interface ConfigDefinition {
  sources: Record<string, SourceDefinition>
  handlers?: HandlerDefinition[]
  /**
   * Addresses and CIDR ranges of proxies in front of ingest, whose `X-Forwarded-*` headers are believed. A text may hold
   * several, separated by commas.
   */
  trustedProxies?: ConfigText[]
  /** When an alert is raised. */
  alerts?: Partial<AlertPolicy>
}

export interface Handler {
  name: string
  on: Filter
  run: HandlerAction
  retry: RetryPolicy
  /** Undefined if nothing is limited. The table `destinations` then decides nothing for this handler. */
  limits: Limits | undefined
}

/** The configuration with every value in place. Holds secrets: never log it. */
export interface Config {
  sources: ReadonlyMap<string, Source>
  /** Names of sources that are configured but off, because nothing that they need is set. */
  sourcesOff: string[]
  handlers: readonly Handler[]
  alerts: AlertPolicy
  /** PUBLIC_BASE_URL and trustedProxies. */
  origin: OriginSettings
  /** Digests a credential with CREDENTIAL_DIGEST_KEY: it can then be compared but not read. Undefined without that key. */
  credentialDigest: ((credential: string) => string) | undefined
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

/** Gives a configuration file its types; returns `config` as it is. */
export function defineConfig(config: ConfigDefinition): ConfigDefinition {
  return config
}

/** A process's environment; tests pass their own. */
export type Environment = Record<string, string | undefined>

export interface LoadOptions {
  /** False for a process that runs no handlers: their variables need not be set, and the result has no handlers. */
  withHandlers?: boolean
}

/**
 * Loads the file at `path` (relative to the working directory) and puts in the values of `environment`.
 * Throws one error that lists every problem and shows no value.
 */
export async function loadConfig(path: string, environment: Environment, options: LoadOptions = {}): Promise<Config> {
  const file = resolvePath(path)
  if (!existsSync(file)) throw new Error(`There is no file ${file}; set RINGBACK_CONFIG to yours`)
  let loaded: { default?: unknown }
  // The file may be where no node_modules has this package, so its imports of the package are resolved from here.
  const hooks = registerHooks({
    resolve: (specifier, context, nextResolve) =>
      nextResolve(specifier, specifier.startsWith(OWN_PACKAGE) ? { ...context, parentURL: import.meta.url } : context),
  })
  try {
    loaded = await import(pathToFileURL(file).href)
  } catch (cause) {
    throw new Error(`The configuration ${placeIn(file, cause)} cannot be loaded`, { cause })
  } finally {
    hooks.deregister()
  }
  return resolveConfig(loaded.default, environment, options)
}

const OWN_PACKAGE = '@ringback/core/'

/** The file, with the line where it fails if that can be told. */
function placeIn(file: string, error: unknown): string {
  const { stack = '' } = error as Error
  return new RegExp(String.raw`${RegExp.escape(file)}(:\d+)+`).exec(stack)?.[0] ?? file
}

const SLUG = /^[a-z0-9][a-z0-9_-]{0,62}$/
const SLUG_TEXT = 'must be lower-case letters, digits, "-" and "_"'

const scalar = z.union([
  z.string(),
  z
    .number()
    .refine(
      (value) => !Number.isInteger(value) || Number.isSafeInteger(value),
      'an integer beyond 2^53 must be a text',
    ),
  z.boolean(),
  z.null(),
])

/** A list of `element` that is not empty: a comparison with an empty list would never match, or always. */
function someOf<Element extends z.ZodType>(element: Element): z.ZodArray<Element> {
  return z.array(element).min(1, 'must not be an empty list: name what is meant, or leave it out')
}

const OPERATORS = 'exists, not, startsWith, endsWith, contains, gt, gte, lt, lte'

const fieldCondition = z.union(
  [
    scalar,
    someOf(scalar),
    z
      .strictObject({
        exists: z.boolean().optional(),
        not: z.union([scalar, someOf(scalar)]).optional(),
        startsWith: z.string().min(1).optional(),
        endsWith: z.string().min(1).optional(),
        contains: z.string().min(1).optional(),
        gt: z.number().optional(),
        gte: z.number().optional(),
        lt: z.number().optional(),
        lte: z.number().optional(),
      })
      .refine((operators) => Object.keys(operators).length > 0, `must have one of ${OPERATORS}`),
  ],
  { error: `must be a value, a list of values, or an object of ${OPERATORS}` },
)

const proof = z.enum(PROOFS)

const filter = z.strictObject({
  source: z.union([z.string(), someOf(z.string())]).optional(),
  type: z.union([z.string(), someOf(z.string())]).optional(),
  account: z.union([z.string(), someOf(z.string())]).optional(),
  verifiedBy: z
    .union([proof, someOf(proof), z.strictObject({ atLeast: proof })], {
      error: `must be one of ${PROOFS.join(', ')}, a list of them, or { atLeast: 'id' }`,
    })
    .optional(),
  fields: z
    .record(z.string().regex(/^[^.]+(\.[^.]+)*$/), fieldCondition, {
      error: ({ code }) => (code === 'invalid_key' ? 'is no path: names with dots between them' : undefined),
    })
    .optional(),
  when: z
    .custom<Filter['when']>(
      (value) => typeof value === 'function' && !types.isAsyncFunction(value),
      'must be a function that is not async: it answers at once, while events are stored',
    )
    .optional(),
})

const retry = z.strictObject({
  maxAttempts: z.int().min(1).max(1000).default(defaultRetry.maxAttempts),
  firstDelayMs: z.int().min(100).max(MAX_DELAY_MS).default(defaultRetry.firstDelayMs),
  maxDelayMs: z.int().min(100).max(MAX_DELAY_MS).default(defaultRetry.maxDelayMs),
  delaysMs: z.array(z.int().min(0).max(MAX_DELAY_MS)).min(1).optional(),
  maxAgeMs: z.int().min(1000).optional(),
  neverRetry: z.array(z.int().min(100).max(599)).default(defaultRetry.neverRetry),
})

const limits = z.strictObject({
  concurrency: z.int().min(1).max(10_000).optional(),
  perSecond: z.number().min(0.001).max(100_000).optional(),
  breaker: z
    .union([
      z.literal(false),
      z.strictObject({
        failureShare: z.number().gt(0).max(1).default(defaultBreaker.failureShare),
        minAttempts: z.int().min(1).default(defaultBreaker.minAttempts),
        windowMs: z.int().min(1000).default(defaultBreaker.windowMs),
        openMs: z.int().min(100).default(defaultBreaker.openMs),
      }),
    ])
    .optional(),
})

const alerts = z.strictObject({
  consecutiveFailures: z.int().min(1).max(1_000_000).default(defaultAlerts.consecutiveFailures),
  quietMinutes: z.int().min(1).max(1440).default(defaultAlerts.quietMinutes),
  busyPerMinute: z.number().gt(0).max(1_000_000).default(defaultAlerts.busyPerMinute),
  storeLagSeconds: z.number().min(1).max(86_400).default(defaultAlerts.storeLagSeconds),
  quarantinedIn5Minutes: z.int().min(0).max(1_000_000).default(defaultAlerts.quarantinedIn5Minutes),
  unendedCallMinutes: z.int().min(0).max(1380).default(defaultAlerts.unendedCallMinutes),
  canarySeconds: z.number().min(15).max(86_400).default(defaultAlerts.canarySeconds),
  disabled: z.array(z.enum(ALERT_KINDS)).default(defaultAlerts.disabled),
})

/** Kinds that need nothing outside this process. */
const LOCAL_KINDS = new Set<HandlerAction['kind']>(['log', 'code'])

/** A destination on another machine has a breaker by default; what runs in this process is limited only if configured. */
function limitsOf({ run, limits: given }: { run: HandlerAction; limits?: Limits | undefined }): Limits | undefined {
  if (LOCAL_KINDS.has(run.kind)) return given
  return { ...given, breaker: given?.breaker ?? defaultBreaker }
}

const definition = z.strictObject({
  sources: z.record(
    z.string().regex(SLUG),
    z.custom<SourceDefinition>(
      (value) => typeof (value as SourceDefinition | undefined)?.resolve === 'function',
      'must be made by a provider, for example voximplant({ ... })',
    ),
    { error: ({ code }) => (code === 'invalid_key' ? `${SLUG_TEXT}, for it is part of a URL` : undefined) },
  ),
  handlers: z
    .array(
      z.strictObject({
        name: z.string().regex(SLUG, `${SLUG_TEXT}, for deliveries and commands name it`),
        on: filter.default({}),
        run: z.custom<ActionDefinition>(
          (value) => typeof (value as ActionDefinition | undefined)?.resolve === 'function',
          'must be made by a function for it, such as log({ ... }), code(...) or forward({ ... })',
        ),
        retry: retry.prefault({}),
        limits: limits.optional(),
      }),
    )
    .default([]),
  trustedProxies: z.array(configText).default([]),
  alerts: alerts.prefault({}),
})

/** Resolves a configuration that is already loaded, as {@link loadConfig} does. Throws a {@link ConfigError}. */
export function resolveConfig(
  loaded: unknown,
  environment: Environment,
  { withHandlers = true }: LoadOptions = {},
): Config {
  const problems: string[] = []
  const problem = (text: string) => void problems.push(text)
  const parsed = parseDefinition(loaded, problem)
  if (parsed === undefined) throw new ConfigError(problems)
  const { origin, knowsPublicUrl } = resolveOrigin(parsed, environment, problem)
  const digestKey = read(environment, 'CREDENTIAL_DIGEST_KEY', problem)
  const { sources, sourcesOff } = resolveSources(parsed, environment, knowsPublicUrl, problem)
  const names = parsed.handlers.map(({ name }) => name)
  for (const name of new Set(names.filter((candidate, index) => names.indexOf(candidate) !== index))) {
    problem(`handlers: two are named "${name}"; a delivery belongs to one of them by its name`)
  }
  const sourceNames = Object.keys((loaded as ConfigDefinition).sources)
  const handlers = (withHandlers ? parsed.handlers : []).map((handler) =>
    resolveHandler(handler, sourceNames, environment, problem),
  )
  if (problems.length > 0) throw new ConfigError(problems)
  return {
    sources,
    sourcesOff,
    handlers,
    alerts: parsed.alerts,
    origin,
    credentialDigest: digestKey === undefined ? undefined : (text) => `digest:${hmac(digestKey, text)}`,
  }
}

type Definition = z.output<typeof definition>
type Problem = (text: string) => void

function resolveOrigin(
  parsed: Definition,
  environment: Environment,
  problem: Problem,
): { origin: OriginSettings; knowsPublicUrl: boolean } {
  const trustedProxies = createResolve(environment, problem)
    .optional(parsed.trustedProxies)
    .flatMap((text) => text.split(',').map((range) => range.trim()))
  const publicBaseUrl = read(environment, 'PUBLIC_BASE_URL', problem)
  const origin = {
    publicBaseUrl,
    trustedProxies: addressList(trustedProxies, (text) => problem(`trustedProxies: ${text}`)),
  }
  if (publicBaseUrl !== undefined && !isBaseUrl(publicBaseUrl)) {
    problem('PUBLIC_BASE_URL must begin with https:// or http:// and have no query')
  }
  checkBase('PUBLIC_BASE_URL', publicBaseUrl, parsed, problem)
  return { origin, knowsPublicUrl: publicBaseUrl !== undefined || trustedProxies.length > 0 }
}

/** Reports a base URL that is a whole callback URL, as it is copied from a provider's settings. */
function checkBase(name: string, baseUrl: string | undefined, { sources }: Definition, problem: Problem): void {
  const source = Object.keys(sources).find((each) => baseOfCallbackUrl(baseUrl ?? '', each) !== undefined)
  if (source !== undefined) problem(`${name} must end before /callbacks/${source}, which Ringback adds`)
}

function resolveSources(
  parsed: Definition,
  environment: Environment,
  knowsPublicUrl: boolean,
  problem: Problem,
): Pick<Config, 'sources' | 'sourcesOff'> {
  const sources = new Map<string, Source>()
  const sourcesOff: string[] = []
  if (OWN_SOURCE in parsed.sources) {
    problem(`sources.${OWN_SOURCE}: the name stands for Ringback's own events; choose another`)
  }
  for (const [name, source] of Object.entries(parsed.sources)) {
    const ofSource = createResolve(environment, (text) => problem(`sources.${name}: ${text}`))
    const resolved = source.resolve({ ...ofSource, knowsPublicUrl })
    if (resolved === undefined) sourcesOff.push(name)
    else sources.set(name, resolved)
    checkBase('publicBaseUrl', resolved?.publicBaseUrl, parsed, ofSource.problem)
  }
  return { sources, sourcesOff }
}

/** `sourceNames` are the names of all sources, including those that are off or invalid. */
function resolveHandler(
  handler: Definition['handlers'][number],
  sourceNames: string[],
  environment: Environment,
  problem: Problem,
): Handler {
  const ofHandler = createResolve(environment, (text) => problem(`handlers.${handler.name}: ${text}`))
  for (const pattern of patternsOfNoSource(handler.on.source, sourceNames)) {
    ofHandler.problem(`on.source: "${pattern}" is no source; there are ${[...sourceNames, OWN_SOURCE].join(', ')}`)
  }
  const run = handler.run.resolve(ofHandler)
  if (run.kind === 'forward' && run.as === 'received' && letsAlertsThrough(handler.on)) {
    ofHandler.problem(`as: 'received' sends the request as it came, and alerts came by none: choose another for them`)
  }
  return { ...handler, run, limits: limitsOf({ ...handler, run }) }
}

/**
 * Reports the parts that have the wrong form and returns the others, so that their problems are reported in the same run.
 * Undefined if what is left cannot be read either.
 */
function parseDefinition(loaded: unknown, problem: Problem): Definition | undefined {
  const parsed = definition.safeParse(loaded)
  if (parsed.success) return parsed.data
  const { issues } = parsed.error
  for (const { path, message } of issues) problem(`${path.join('.') || 'the default export'}: ${message}`)
  const broken = new Set(issues.map(({ path }) => path.slice(0, 2).join('.')))
  return definition.safeParse(withoutBroken(loaded, broken)).data
}

/** Leaves out the parts (`alerts`) and their entries (`sources.crm`, `handlers.0`) that are `broken`. */
function withoutBroken(loaded: unknown, broken: ReadonlySet<string>): unknown {
  const parts = Object.entries(loaded ?? {}).filter(([part]) => part in definition.shape && !broken.has(part))
  return Object.fromEntries(
    parts.map(([part, value]) => {
      const sound = Object.entries(value as object).filter(([key]) => !broken.has(`${part}.${key}`))
      return [part, Array.isArray(value) ? sound.map(([, entry]) => entry) : Object.fromEntries(sound)]
    }),
  )
}

/** Why ROOT_SOURCE may not have this name; undefined where it may. */
export function rootSourceProblem(name: string, sources: Config['sources']): string | undefined {
  const source = sources.get(name)
  if (source === undefined) {
    const areOn = sources.size > 0 ? `; those are: ${[...sources.keys()].join(', ')}` : ', for none is'
    return `ROOT_SOURCE names "${name}", which is no source that is on${areOn}`
  }
  if (source.urlTokens.length === 0) return undefined
  return (
    `ROOT_SOURCE names "${name}", whose URLs end in one of its urlTokens, so that "/" could only answer 404: ` +
    'name another, or leave out urlTokens'
  )
}

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
    Object.keys(schema.shape).map((name) => [name, read(environment, name, (text) => problems.push(text))]),
  )
  const parsed = schema.safeParse(values, { error: variableError })
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`))
  if (problems.length > 0) throw new ConfigError(problems)
  return parsed.data as z.infer<Schema>
}

/** What is wrong with a variable where its schema has no text of its own. */
function variableError({
  code,
  input,
  expected,
}: {
  code?: string
  input: unknown
  expected?: string
}): string | undefined {
  if (input === undefined) return 'is not set'
  return code === 'invalid_type' && expected === 'number' ? 'must be a number' : undefined
}

function createResolve(environment: Environment, problem: Problem): Omit<Resolve, 'knowsPublicUrl'> & ResolveAction {
  const value = (text: ConfigText) =>
    typeof text === 'string' ? text : read(environment, text.fromEnvironment, problem)
  const set = (texts: ConfigText[]) => {
    if (texts.includes('')) problem('an empty text is no secret and no name: anybody could use it')
    return texts.map(value).filter((found) => found !== undefined && found !== '') as string[]
  }
  return {
    problem,
    optional: (texts) => set([texts].flat()),
    required(option, text) {
      const found = value(text)
      if (!found)
        problem(typeof text === 'string' ? `${option} is empty` : `${text.fromEnvironment} is not set (${option})`)
      return found ?? ''
    },
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

function read(environment: Environment, name: string, problem: Problem): string | undefined {
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

function hmac(key: string, text: string): string {
  return createHmac('sha256', key).update(text).digest('hex')
}
