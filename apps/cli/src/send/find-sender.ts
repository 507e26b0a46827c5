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
  const provider = providers.find((candidate) => candidate.name === found.source.provider)
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

function findSource(
  name: string,
  event: string,
  { scheme, secret }: SenderOptions,
  { sources, sourcesOff }: KnownConfig,
): Pick<Sender, 'sourceName' | 'source'> {
  // A source with nothing set may be one that `npm start` switches on with its public credentials.
  const isDemo = demoSources.has(name) && sourcesOff.includes(name)
  const [sourceName, configured] =
    [...sources].find(([candidate]) => candidate === name) ??
    (isDemo ? undefined : findSourceOfProvider(name, event, scheme, sources)) ??
    []
  if (sourceName !== undefined && configured !== undefined) {
    if (scheme === undefined || scheme === configured.scheme) return { sourceName, source: configured }
    const provider = providers.find((candidate) => candidate.name === configured.provider)
    if (secret === undefined || provider === undefined) {
      throw new Error(
        `Source "${sourceName}" has scheme "${configured.scheme}": to send by another, pass --secret as well`,
      )
    }
    const source = createSource(provider, scheme, secret)
    return { sourceName, source: { ...source, urlTokens: configured.urlTokens } }
  }

  const provider = providers.find((candidate) => candidate.name === name)
  if (provider === undefined) {
    throw new Error(
      sourcesOff.includes(name)
        ? `Source "${name}" is off, for none of its variables is set`
        : `There is no sender for "${name}": it is no source of the configuration and none of the providers that "ringback providers" lists`,
    )
  }
  if (secret !== undefined) {
    const schemes = Object.keys(provider.schemes)
    const chosen = scheme ?? schemes.find((candidate) => hasSample(provider, candidate, event)) ?? schemes[0]!
    return { sourceName: name, source: createSource(provider, chosen, secret) }
  }
  const demo = demoSources.get(name)
  if (demo === undefined) {
    const [usual, ...others] = Object.entries(provider.schemes).filter(([, profile]) => isSigned(profile))
    const orSecret =
      usual && `, or pass --secret${others.length > 0 ? ` (and --scheme, if it is not ${usual[0]})` : ''}`
    throw new Error(
      `No source of ${provider.title} is configured: configure one, as docs/configuration.md says${orSecret ?? ''}`,
    )
  }
  return { sourceName: name, source: resolved(name, demo) }
}

/** The first of a provider's sources that has the scheme, or, if no scheme is given, the event; else the first of all. */
function findSourceOfProvider(
  providerName: string,
  event: string,
  scheme: string | undefined,
  sources: KnownConfig['sources'],
): [name: string, source: Source] | undefined {
  const provider = providers.find(({ name }) => name === providerName)
  const own = [...sources].filter(([, source]) => source.provider === providerName)
  const fitting = own.find(([, source]) =>
    scheme === undefined ? provider && hasSample(provider, source.scheme, event) : source.scheme === scheme,
  )
  return fitting ?? own[0]
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
