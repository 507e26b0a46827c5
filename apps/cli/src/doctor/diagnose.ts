import type { ProviderRequest, Reading, RejectReason, Source } from '@ringback/core/providers/provider'
import { requestsOf } from '../quarantined-request.ts'
import type { Quarantined } from '../quarantined-request.ts'
import type { Examination } from './examination.ts'
import { maskUrl } from './mask-url.ts'

// Why a request was refused, in words that say what to do.

/** What was found out about one refusal. */
export type Diagnosis =
  /** Today's configuration would let it in. */
  | { kind: 'passes' }
  /** `remedy` is what would have let it in, if that was found. */
  | { kind: 'refused'; reason: string; advice: string; remedy?: string }

type DiagnoseOptions = Pick<Examination, 'source' | 'config' | 'baseUrl'>

/** Verifies again: by the source as configured, by its provider's other schemes, and as if other URLs had been called. */
export function diagnose(row: Quarantined, options: DiagnoseOptions): Diagnosis {
  // These passed verification and were refused for another reason.
  if (row.reason === 'nonce_reused' || row.reason === 'not_storable') {
    return { kind: 'refused', reason: row.reason, advice: ADVICE[row.reason] }
  }
  const { source, config } = options
  const requests = requestsOf(row, source, config)
  const readings = requests.map((request) => source.read(request))
  if (readings.some(isAccepted)) return { kind: 'passes' }
  const reason = readings.map(reasonOf).find((found) => found !== undefined) ?? (row.reason as RejectReason)
  const remedy = schemeThatFits(source, requests) ?? urlThatFits(row, requests, options)
  return { kind: 'refused', reason, advice: adviceFor(reason), ...(remedy !== undefined && { remedy }) }
}

/** What a reason means and what to do about it. */
export function adviceFor(reason: RejectReason): string {
  return ADVICE[reason] ?? `It was refused as ${reason}.`
}

const SET_PUBLIC_URL =
  'set PUBLIC_BASE_URL, or publicBaseUrl of this source, to where that begins, or correct the URL at the provider.'

const ADVICE: Record<RejectReason | 'nonce_reused' | 'not_storable', string> = {
  unreadable_body:
    'The body is neither JSON nor a form as this provider sends it: is this the right source, and does a proxy change bodies?',
  too_deep: 'The body nests deeper than 64 levels, as no provider does.',
  too_many_callbacks: 'It holds more than 10,000 callbacks, as no provider sends in one request.',
  callback_id_missing: 'Nothing in it names the callback: is this the right source and scheme?',
  callback_id_unreadable: 'What should name the callback is no id.',
  token_not_replaced: 'The id came as an unreplaced token such as ((id)): correct the URL at the provider.',
  hash_missing: 'It carries no hash: was a salt entered at the provider?',
  hash_mismatch:
    'The hash fits none of the configured secrets: compare salt, api_key and account_id with the control panel.',
  account_mismatch: 'The hash fits, but the body names another account than the one configured with these secrets.',
  signature_missing:
    'It carries no signature. Where the provider does not sign, use urlTokens or basicAuth and allowUnsigned; else see whether a proxy drops headers.',
  signature_unreadable: 'The signature header is not written as this scheme writes it: is it the right scheme?',
  signature_mismatch:
    'The signature fits none of the configured secrets: it is forged, or the provider has another secret, or a proxy changes what is signed.',
  body_hash_mismatch:
    'The signature is genuine but the body is another: something between the provider and Ringback changes bodies.',
  url_hash_mismatch: `The signature is genuine but for another URL than the one that Ringback takes: ${SET_PUBLIC_URL}`,
  timestamp_missing: 'The time that is signed is missing: does a proxy drop headers?',
  timestamp_unreadable: 'The time that is signed cannot be read.',
  timestamp_out_of_tolerance:
    'It was signed too long before or after it came: is the clock of this machine right, and does the provider sign repetitions anew? If not, raise toleranceSeconds.',
  nonce_missing: 'The nonce that is signed is missing: does a proxy drop headers?',
  credentials_missing:
    'It came without the credentials that this source asks for (basicAuth, bearerTokens or headers).',
  credentials_mismatch: 'It came with credentials that are not among those configured.',
  nonce_reused:
    'Its signature is genuine but came before with other content, which it does not cover: somebody repeats it with a content of their own.',
  not_storable: 'It is genuine, and Postgres cannot store it: "ringback quarantine show" has the error.',
  address_not_allowed:
    'Its address is not among those that may send. Behind a proxy, list the proxy in trustedProxies.',
}

function isAccepted(reading: Reading): boolean {
  return reading.kind === 'read' && reading.callbacks.some(({ kind }) => kind === 'genuine')
}

function reasonOf(reading: Reading): RejectReason | undefined {
  if (reading.kind === 'refused') return reading.reason
  return reading.callbacks.flatMap((callback) => (callback.kind === 'genuine' ? [] : [callback.reason]))[0]
}

function schemeThatFits(source: Source, requests: ProviderRequest[]): string | undefined {
  const fitting = source
    .alternatives()
    .filter((other) => requests.some((request) => isAccepted(other.read(request))))
    .map(({ scheme }) => `"${scheme}"`)
  if (fitting.length === 0) return undefined
  return `It fits the scheme ${fitting.join(' or ')}: set that in the options of this source, or make it a source of its own.`
}

function urlThatFits(
  row: Quarantined,
  requests: ProviderRequest[],
  { source, config, baseUrl }: DiagnoseOptions,
): string | undefined {
  if (!source.needsUrl) return undefined
  const bases = [
    baseUrl,
    ...[...config.sources.values()].map(({ publicBaseUrl }) => publicBaseUrl),
    config.origin.publicBaseUrl,
    ...forwardedBases(row.headers),
  ].filter((base) => base !== undefined)
  const candidates = [...new Set(bases)].flatMap((base) => requests.flatMap(({ url }) => urlsLike(url, base)))
  const [request] = requests
  const fitting = candidates.find((url) => isAccepted(source.read({ ...request!, url })))
  const known = URL.canParse(request!.url) ? maskUrl(request!.url, source.urlTokens) : undefined
  if (fitting !== undefined) {
    const fits = maskUrl(fitting, source.urlTokens)
    return known === undefined
      ? `It was signed for ${fits}, and Ringback does not know that this is its URL: ${SET_PUBLIC_URL}`
      : `It was signed for ${fits}, while Ringback takes itself to be called by ${known}: ${SET_PUBLIC_URL}`
  }
  if (known !== undefined) return undefined
  return 'The URL is signed, and Ringback does not know by which one it is called: set PUBLIC_BASE_URL.'
}

/** What proxies say about where a request went. It is believed here, because the signature decides in the end. */
function forwardedBases(headers: Record<string, string>): string[] {
  const forwarded = headers['forwarded'] ?? ''
  const host = lastOf(headers['x-forwarded-host']) ?? /host="?([^;,"\s]+)/i.exec(forwarded)?.[1]
  if (host === undefined) return []
  return [`https://${host}`, `https://${host}${lastOf(headers['x-forwarded-prefix']) ?? ''}`]
}

function lastOf(value: string | undefined): string | undefined {
  return value?.split(',').at(-1)?.trim() || undefined
}

/** The usual ways in which a URL before a proxy differs from the one behind it. */
function urlsLike(url: string, baseUrl: string): string[] {
  const base = URL.parse(baseUrl)
  const called = URL.parse(url, baseUrl)
  if (base === null || called === null) return []
  const { host, hostname } = base
  // The last: a base that is itself a whole callback URL by mistake has the others.
  const at = called.pathname.lastIndexOf('/callbacks/')
  const path = called.pathname.slice(Math.max(0, at)).replace(/\/$/, '')
  const prefix = base.pathname.replace(/\/$/, '')
  const shorter = prefix.replace(/\/callbacks\/.*/, '')
  const paths = [`${prefix}${path}`, `${shorter}${path}`, path].flatMap((each) => [each, `${each}/`])
  const targets = paths.flatMap((each) => [each + called.search, each])
  const hosts = [host, hostname, `${hostname}:443`, `${hostname}:80`]
  return ['https', 'http'].flatMap((scheme) =>
    hosts.flatMap((each) => targets.map((target) => `${scheme}://${each}${target}`)),
  )
}
