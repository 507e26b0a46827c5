import type { Config } from '@ringback/core/config'
import type { ProviderRequest, Reading, RejectReason, Source } from '@ringback/core/providers/provider'
import { requestsOf } from './quarantined-request.ts'
import type { Quarantined } from './quarantined-request.ts'

// Why a request was refused, in words that say what to do.

/** What is found out about one refusal; each a sentence for an operator. */
export function diagnose(row: Quarantined, source: Source, config: Config): string[] {
  const requests = requestsOf(row, source, config)
  const readings = requests.map((request) => source.read(request))
  if (readings.some(isAccepted)) {
    return [`It passes now: let it in with "ringback quarantine release ${row.id}".`]
  }
  const [request] = requests
  const reason = reasonOf(readings[0]!) ?? (row.reason as RejectReason)
  return [
    ADVICE[reason] ?? `It was refused as ${reason}.`,
    ...(fitsAnother(source, requests) ?? fitsAnotherUrl(source, request!) ?? []),
  ]
}

const ADVICE: Partial<Record<RejectReason | 'too_large' | 'nonce_reused', string>> = {
  unreadable_body:
    'The body is neither JSON nor a form as this provider sends it: is this the right source, and does a proxy change bodies?',
  too_deep: 'The body nests deeper than 64 levels, as no provider does.',
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
  signature_mismatch: 'The signature fits none of the configured secrets.',
  body_hash_mismatch:
    'The signature is genuine but the body is another: something between the provider and Ringback changes bodies.',
  timestamp_missing: 'The time that is signed is missing: does a proxy drop headers?',
  timestamp_unreadable: 'The time that is signed cannot be read.',
  timestamp_out_of_tolerance:
    'It was signed too long before or after it came: is the clock of this machine right, and does the provider sign repetitions anew? If not, raise toleranceSeconds.',
  nonce_missing: 'The nonce that is signed is missing: does a proxy drop headers?',
  credentials_missing:
    'It came without the credentials that this source asks for (basicAuth, bearerTokens or headers).',
  credentials_mismatch: 'It came with credentials that are not among those configured.',
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

function fitsAnother(source: Source, requests: ProviderRequest[]): string[] | undefined {
  const fitting = source
    .alternatives()
    .filter((other) => requests.some((request) => isAccepted(other.read(request))))
    .map(({ scheme }) => `"${scheme}"`)
  return fitting.length > 0
    ? [`It fits the scheme ${fitting.join(' or ')}: set it in this source's options.`]
    : undefined
}

/** The usual ways in which a URL before a proxy differs from the one behind it. */
function fitsAnotherUrl(source: Source, request: ProviderRequest): string[] | undefined {
  const url = source.needsUrl ? URL.parse(request.url) : null
  if (url === null) return undefined
  const { host, hostname, pathname, search } = url
  const path = pathname.replace(/\/$/, '')
  const hosts = [host, hostname, `${hostname}:443`, `${hostname}:80`]
  const paths = [pathname, path, `${path}/`].flatMap((each) => [each + search, each])
  const candidates = ['https', 'http'].flatMap((scheme) =>
    hosts.flatMap((each) => paths.map((target) => `${scheme}://${each}${target}`)),
  )
  const fitting = candidates.find((candidate) => isAccepted(source.read({ ...request, url: candidate })))
  return fitting === undefined
    ? undefined
    : [
        `It was signed for ${fitting}, while Ringback takes its URL to be ${request.url}: correct PUBLIC_BASE_URL or the URL at the provider.`,
      ]
}
