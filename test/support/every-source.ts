import { generateKeyPairSync } from 'node:crypto'
import { resolveConfig } from '@ringback/core/config'
import type { Config, Resolve, SourceDefinition } from '@ringback/core/config'
import { providers } from '@ringback/core/providers/all'
import { generic } from '@ringback/core/providers/generic'
import type { OutgoingRequest, Provider, Sample, Scheme, Source } from '@ringback/core/providers/provider'
import { fillSample } from '@ringback/core/providers/sample'
import { resolveSource } from '@ringback/core/providers/source'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'

// A source for every way in which any provider calls back, and its genuine requests.

const pair = generateKeyPairSync('ed25519')
/** The secret of every source. Where a scheme has shared secrets, it is used as one. */
const PUBLIC_KEY = pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64')
const PRIVATE_KEY = pair.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32).toString('base64')

/** The beginning of all sources' URLs for their providers. */
const PUBLIC_BASE_URL = 'https://hooks.example.test'
const { accountId, apiKey, salt } = demoCredentials

/** A source for each scheme of each provider, under `<provider>-<scheme>`; in shadow mode under `shadow-...`. */
export function everySource(shadowModes: readonly boolean[] = [false]): Config {
  const sources = shadowModes.flatMap((shadow) =>
    definitions(shadow).map(([name, definition]) => [`${shadow ? 'shadow-' : ''}${name}`.toLowerCase(), definition]),
  )
  return resolveConfig({ sources: Object.fromEntries(sources) }, { PUBLIC_BASE_URL, CREDENTIAL_DIGEST_KEY: 'key' })
}

function definitions(shadow: boolean): [name: string, definition: SourceDefinition][] {
  const ofSchemes = providers.flatMap((provider) =>
    Object.keys(provider.schemes).map((scheme): [string, SourceDefinition] => [
      `${provider.name}-${scheme}`,
      provider.name === 'voximplant'
        ? voximplant({ accounts: [{ accountId, apiKey, salts: salt }], shadow })
        : ofScheme(provider as Provider<string, Scheme>, scheme, shadow),
    ]),
  )
  return [
    ...ofSchemes,
    ['standard-webhooks-public-key', standardWebhooks({ secrets: `whpk_${PUBLIC_KEY}`, shadow })],
    ['generic-signed', generic({ ...SIGNED, secrets: PUBLIC_KEY, shadow })],
  ]
}

const SIGNED = {
  signature: {
    algorithm: 'hmac-sha256',
    header: 'X-Signature',
    encoding: 'hex',
    prefix: 'sha256=',
    text: '{timestamp}.{body}',
    timestamp: { header: 'X-Timestamp', format: 'unix' },
  },
  callbackId: { json: '/id' },
  type: { json: '/type' },
} as const

function ofScheme(provider: Provider<string, Scheme>, scheme: string, shadow: boolean): SourceDefinition {
  const isSigned = provider.schemes[scheme]!.signature !== undefined
  const proof = isSigned ? { secrets: PUBLIC_KEY } : { basicAuth: { username: 'user', password: 'pass:word' } }
  return {
    provider: provider.name,
    resolve: (resolve: Resolve) => resolveSource(provider, { scheme, shadow, ...proof }, resolve),
  }
}

/** The samples of a source's scheme, by the provider's own word for the event. */
export function samplesOf({ provider, scheme }: Source): Record<string, Sample> {
  return providers.find(({ name }) => name === provider)!.schemes[scheme]!.samples
}

/** A signed request of this source's provider, with `callbacks` callbacks of the sample if the provider sends several. */
export function sampleRequest(
  config: Config,
  name: string,
  sample: Sample,
  { callbacks = 1, forged = false }: { callbacks?: number; forged?: boolean } = {},
): OutgoingRequest {
  const source = config.sources.get(name)!
  const at = new Date()
  const { method, query, headers, body } = fillSample(sample, at)
  const search = new URLSearchParams(query).toString()
  const isBatch = source.envelope !== undefined && body.length > 0
  const request = {
    method,
    url: `${PUBLIC_BASE_URL}/callbacks/${name}${search === '' ? '' : `?${search}`}`,
    headers,
    body: isBatch ? source.envelope!(Array.from({ length: callbacks }, () => body)) : body,
  }
  return source.sign(request, { at, forged, secret: privateKeyOf(name, source) })
}

/** The key with which the provider signs, if the source has a public key. */
function privateKeyOf(name: string, { provider }: Source): string | undefined {
  if (name.endsWith('public-key')) return `whsk_${PRIVATE_KEY}`
  return provider === 'telnyx' ? PRIVATE_KEY : undefined
}
