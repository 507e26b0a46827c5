import { resolveConfig } from '@ringback/core/config'
import type { Config, SourceDefinition } from '@ringback/core/config'
import { providers } from '@ringback/core/providers/all'
import type { Provider, Sample, Scheme, SchemeProfile, Source } from '@ringback/core/providers/provider'
import { resolveSource } from '@ringback/core/providers/source'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { valueAt } from '@ringback/core/value-at'

// Finds whom to play: a configured source with its secrets, or a provider with a secret given for this one run.

/** Who sends, and what. */
export interface Sender {
  sourceName: string
  source: Source
  profile: SchemeProfile
  sample: Sample
  /** What the provider calls itself. */
  title: string
  /** Whether the event has a sample of its own. If not, `sample` holds nothing but the event's name. */
  isDocumented: boolean
}

export interface SenderOptions {
  scheme?: string
  secret?: string
}

type NamedSource = Pick<Sender, 'sourceName' | 'source'>
type KnownConfig = Pick<Config, 'sources' | 'sourcesOff'>

const { accountId, apiKey, salt } = demoCredentials
/** The sources that Ringback starts with if nothing is configured. */
const demoSources = new Map<string, SourceDefinition>([
  ['voximplant', voximplant({ accounts: [{ accountId, apiKey, salts: salt }] })],
])

/** Finds the sender for a source's or a provider's name. If there is none, throws an error that says what to do. */
export function findSender(name: string, event: string, options: SenderOptions, config: KnownConfig): Sender {
  if (options.secret === '') throw new Error('--secret is empty')
  const found = findSource(name, event, options, config)
  const provider = findProvider(found.source.provider)
  const profile = provider && ownValue(provider.schemes, found.source.scheme)
  if (provider === undefined || profile === undefined) {
    throw new Error(`There are no samples of provider "${found.source.provider}", scheme "${found.source.scheme}"`)
  }
  if (options.scheme !== undefined && options.scheme !== found.source.scheme) {
    throw new Error(`${provider.title} has no scheme "${options.scheme}" here; it has ${found.source.scheme}`)
  }
  const sample = findSample(profile, event)
  if (sample === undefined) throw new Error(unknownEvent(provider, found.source.scheme, event))
  return { ...found, profile, sample, title: provider.title, isDocumented: Object.hasOwn(profile.samples, event) }
}

/** The first that there is of: a configured source, one made from the secret, and the one with public credentials. */
function findSource(name: string, event: string, options: SenderOptions, config: KnownConfig): NamedSource {
  const configured = findConfigured(name, event, options.scheme, config)
  const found =
    (configured && withScheme(configured, options)) ?? fromSecret(name, event, options) ?? fromDemoCredentials(name)
  if (found === undefined) throw new Error(noSender(name, config))
  return found
}

/**
 * The source of this name. If there is none, it is a provider's name: the first of the provider's sources that has the scheme,
 * or, if no scheme is given, the event; else the first of all.
 */
function findConfigured(
  name: string,
  event: string,
  scheme: string | undefined,
  { sources, sourcesOff }: KnownConfig,
): NamedSource | undefined {
  const named = sources.get(name)
  if (named !== undefined) return { sourceName: name, source: named }
  // A source with nothing set may be one that `npm start` switches on with its public credentials.
  if (demoSources.has(name) && sourcesOff.includes(name)) return undefined
  const provider = findProvider(name)
  const own = [...sources].filter(([, source]) => source.provider === name)
  const fitting = own.find(([, source]) =>
    scheme === undefined ? provider && hasSample(provider, source.scheme, event) : source.scheme === scheme,
  )
  const [sourceName, source] = fitting ?? own[0] ?? []
  return sourceName === undefined || source === undefined ? undefined : { sourceName, source }
}

/** A configured source, or, if another scheme of its provider is asked for, one made from the secret in its place. */
function withScheme({ sourceName, source }: NamedSource, { scheme, secret }: SenderOptions): NamedSource {
  if (scheme === undefined || scheme === source.scheme) return { sourceName, source }
  const provider = findProvider(source.provider)
  if (secret === undefined || provider === undefined) {
    throw new Error(`Source "${sourceName}" has scheme "${source.scheme}": to send by another, pass --secret as well`)
  }
  return { sourceName, source: { ...createSource(provider, scheme, secret), urlTokens: source.urlTokens } }
}

/** By the scheme that is given, else the first that has the event, else the first of all. */
function fromSecret(name: string, event: string, { scheme, secret }: SenderOptions): NamedSource | undefined {
  const provider = findProvider(name)
  if (provider === undefined || secret === undefined) return undefined
  const schemes = Object.keys(provider.schemes)
  const chosen = scheme ?? schemes.find((candidate) => hasSample(provider, candidate, event)) ?? schemes[0]!
  return { sourceName: name, source: createSource(provider, chosen, secret) }
}

function fromDemoCredentials(name: string): NamedSource | undefined {
  const demo = demoSources.get(name)
  return demo && { sourceName: name, source: resolved(name, demo) }
}

function noSender(name: string, { sourcesOff }: KnownConfig): string {
  const provider = findProvider(name)
  if (provider === undefined) {
    return sourcesOff.includes(name)
      ? `Source "${name}" is off, for none of its variables is set`
      : `There is no sender for "${name}": it is no source of the configuration and none of the providers that "ringback providers" lists`
  }
  const [usual, ...others] = Object.entries(provider.schemes).filter(([, profile]) => isSigned(profile))
  const orSecret = usual && `, or pass --secret${others.length > 0 ? ` (and --scheme, if it is not ${usual[0]})` : ''}`
  return `No source of ${provider.title} is configured: configure one, as docs/configuration.md says${orSecret ?? ''}`
}

function findProvider(name: string): Provider | undefined {
  return providers.find((candidate) => candidate.name === name)
}

/** Makes a source that nobody configured, for signing only. */
function createSource(provider: Provider, scheme: string, secret: string): Source {
  if (!isComplete(provider)) {
    throw new Error(`A secret alone makes no source of ${provider.title}: configure one (docs/configuration.md)`)
  }
  const definition: SourceDefinition = {
    provider: provider.name,
    resolve: (resolve) => resolveSource(provider, { scheme, secrets: secret }, resolve),
  }
  return resolved(provider.name, definition)
}

function resolved(name: string, definition: SourceDefinition): Source {
  // Signing uses the URL that it is given, so the public one need not be known.
  const { sources } = resolveConfig({ sources: { [name]: definition } }, { PUBLIC_BASE_URL: 'http://127.0.0.1' })
  return sources.get(name)!
}

function isComplete(provider: Provider): provider is Provider<string, Scheme> {
  return Object.values(provider.schemes).every((scheme) => 'split' in scheme)
}

function isSigned(profile: SchemeProfile & Partial<Scheme>): boolean {
  return profile.signature !== undefined
}

function hasSample(provider: Provider, scheme: string, event: string): boolean {
  return Object.hasOwn(ownValue(provider.schemes, scheme)?.samples ?? {}, event)
}

/**
 * The sample of an event. If samples have their data in a member named after the event, an event that has no sample gets one
 * without data.
 */
export function findSample({ samples }: Pick<SchemeProfile, 'samples'>, event: string): Sample | undefined {
  const own = ownValue(samples, event)
  if (own !== undefined) return own
  for (const [name, sample] of Object.entries(samples)) {
    if (valueAt(sample.json, [name]) === undefined) continue
    const members = Object.entries(sample.json as object)
      .filter(([key]) => key !== name)
      .map(([key, value]) => [key, value === name ? event : value])
    return { ...sample, json: Object.fromEntries([...members, [event, {}]]) }
  }
  return undefined
}

function unknownEvent(provider: Provider, scheme: string, event: string): string {
  const elsewhere = Object.keys(provider.schemes).find((candidate) => hasSample(provider, candidate, event))
  if (elsewhere !== undefined) {
    return `"${event}" is an event of ${provider.title}’s scheme "${elsewhere}", not of "${scheme}": pass --scheme, or name a source that has it`
  }
  const events = Object.keys(provider.schemes[scheme]!.samples).join(', ')
  return `There is no sample of "${event}" for ${provider.title}, scheme "${scheme}"; there are: ${events}`
}

function ownValue<Value>(record: Record<string, Value>, key: string): Value | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}
