import { createHmac } from 'node:crypto'
import { existsSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { resolve as resolvePath } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseDefinition } from './config-schema.ts'
import type { Definition } from './config-schema.ts'
import { ConfigError, readVariable } from './environment.ts'
import type { Environment, Problem } from './environment.ts'
import { letsAlertsThrough, OWN_SOURCE, patternsOfNoSource } from './filter.ts'
import type { AlertPolicy } from './alerts.ts'
import type { Filter } from './filter.ts'
import { defaultBreaker } from './handlers.ts'
import type { ActionDefinition, HandlerAction, Limits } from './handlers.ts'
import { addressList } from './providers/access.ts'
import type { Source } from './providers/provider.ts'
import { baseOfCallbackUrl } from './providers/request-origin.ts'
import type { OriginSettings } from './providers/request-origin.ts'
import { isBaseUrl } from './providers/source.ts'
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
  problem: Problem
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

/** Gives a configuration file its types; returns `config` as it is. */
export function defineConfig(config: ConfigDefinition): ConfigDefinition {
  return config
}

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
  const digestKey = readVariable(environment, 'CREDENTIAL_DIGEST_KEY', problem)
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

function resolveOrigin(
  parsed: Definition,
  environment: Environment,
  problem: Problem,
): { origin: OriginSettings; knowsPublicUrl: boolean } {
  const trustedProxies = createResolve(environment, problem)
    .optional(parsed.trustedProxies)
    .flatMap((text) => text.split(',').map((range) => range.trim()))
  const publicBaseUrl = readVariable(environment, 'PUBLIC_BASE_URL', problem)
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

/** Kinds that need nothing outside this process. */
const LOCAL_KINDS = new Set<HandlerAction['kind']>(['log', 'code'])

/** A destination on another machine has a breaker by default; what runs in this process is limited only if configured. */
function limitsOf({ run, limits: given }: { run: HandlerAction; limits?: Limits | undefined }): Limits | undefined {
  if (LOCAL_KINDS.has(run.kind)) return given
  return { ...given, breaker: given?.breaker ?? defaultBreaker }
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

function createResolve(environment: Environment, problem: Problem): Omit<Resolve, 'knowsPublicUrl'> & ResolveAction {
  const value = (text: ConfigText) =>
    typeof text === 'string' ? text : readVariable(environment, text.fromEnvironment, problem)
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

function hmac(key: string, text: string): string {
  return createHmac('sha256', key).update(text).digest('hex')
}
