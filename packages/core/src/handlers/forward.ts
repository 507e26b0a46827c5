import { createSecureContext } from 'node:tls'
import { isIP } from 'node:net'
import { z } from 'zod'
import type { ConfigText, ResolveAction } from '../config.ts'
import { checked, configText, HEADER_NAME, configTexts, timeoutMs } from '../checked-options.ts'
import type { ActionDefinition } from '../handlers.ts'
import { mayConnect, refusalOf } from '../outgoing-addresses.ts'
import { addressList } from '../providers/access.ts'
import type { AddressList } from '../providers/access.ts'
import { fromBase64 } from '../providers/proof.ts'

// The action `forward`: an event goes to a URL. docs/handlers.md describes the options; apps/worker sends the requests.

/** The form in which an event is sent: as it was received, or one that the destination takes. */
export type ForwardAs = 'received' | 'json' | 'form' | 'get'

export interface ForwardOptions {
  /** https:// or http://, without user and password. With `as: 'get'` it may hold `((name))`, filled from the payload. */
  url: ConfigText
  /** `json` where it is left out. */
  as?: ForwardAs
  headers?: Record<string, ConfigText>
  basicAuth?: { username: ConfigText; password: ConfigText }
  bearerToken?: ConfigText
  /** Signs by Standard Webhooks with every one of these secrets, each `whsec_` and base64. */
  sign?: { secrets: ConfigText | ConfigText[] }
  /** PEM. `ca` replaces the authorities that Node.js trusts when the destination's certificate is checked. */
  clientCertificate?: { cert: ConfigText; key: ConfigText; ca?: ConfigText }
  /** Tried in the same attempt if `url` cannot be reached, is too slow, or answers 429 or 5xx. None if it is unset. */
  fallbackUrl?: ConfigText
  /** The time limit of the whole attempt; 15 s where it is left out. */
  timeoutMs?: number
  /** Addresses and CIDR ranges that may be connected to although they are not public. */
  allowAddresses?: string[]
  /** How many redirects are followed; none where it is left out. */
  maxRedirects?: number
}

/** Holds secrets: never log it. */
export interface ForwardAction {
  kind: 'forward'
  as: ForwardAs
  /** May hold tokens with `as: 'get'`, and is then a URL only once they are filled. */
  url: string
  fallbackUrl: string | undefined
  /** By lower-case names, `authorization` included. */
  headers: Record<string, string>
  /** Keys of HMAC-SHA256, one a secret. Nothing is signed where there are none. */
  signingKeys: Buffer[]
  clientCertificate: ClientCertificate | undefined
  timeoutMs: number
  allowAddresses: AddressList
  maxRedirects: number
}

/** PEM texts. */
export interface ClientCertificate {
  cert: string
  key: string
  ca: string | undefined
}

const schema = z.strictObject({
  url: configText,
  as: z.enum(['received', 'json', 'form', 'get']).default('json'),
  headers: z.record(z.string(), configText).default({}),
  basicAuth: z.strictObject({ username: configText, password: configText }).optional(),
  bearerToken: configText.optional(),
  sign: z.strictObject({ secrets: configTexts }).optional(),
  clientCertificate: z.strictObject({ cert: configText, key: configText, ca: configText.optional() }).optional(),
  fallbackUrl: configText.optional(),
  timeoutMs: timeoutMs.default(15_000),
  allowAddresses: z.array(z.string()).default([]),
  maxRedirects: z.int().min(0).max(10).default(0),
})
type ParsedOptions = z.infer<typeof schema>

/**
 * Sends each event to a URL, as JSON, as a form, as a GET, or as it came. 2xx is success. URLs and secrets may come from the
 * environment by `env()`.
 */
export function forward(options: ForwardOptions): ActionDefinition {
  return { resolve: (resolve) => resolveForward(options, resolve) }
}

function resolveForward(options: unknown, resolve: ResolveAction): ForwardAction {
  const given = checked(schema, options, { url: 'https://unusable.invalid' }, resolve.problem)
  const allowAddresses = addressList(given.allowAddresses, (text) => resolve.problem(`allowAddresses: ${text}`))
  const checkUrl = (option: string, url: string) => {
    const problem = urlProblem(url, given.as, allowAddresses)
    if (url !== '' && problem !== undefined) resolve.problem(`${option} ${problem}`)
    return url
  }
  const fallbackUrl = given.fallbackUrl === undefined ? undefined : resolve.optional(given.fallbackUrl)[0]
  return {
    kind: 'forward',
    as: given.as,
    url: checkUrl('url', resolve.required('url', given.url)),
    fallbackUrl: fallbackUrl === undefined ? undefined : checkUrl('fallbackUrl', fallbackUrl),
    headers: { ...resolveHeaders(given, resolve), ...resolveAuthorization(given, resolve) },
    signingKeys: given.sign === undefined ? [] : resolveSigningKeys(given.sign.secrets, resolve),
    clientCertificate: resolveClientCertificate(given.clientCertificate, resolve),
    timeoutMs: given.timeoutMs,
    allowAddresses,
    maxRedirects: given.maxRedirects,
  }
}

/** `((name))`, or `{{name}}`, which some providers write instead. */
export const URL_TOKEN = /\(\(([^()]*)\)\)|\{\{([^{}]*)\}\}/g

function urlProblem(text: string, as: ForwardAs, allowAddresses: AddressList): string | undefined {
  if (!/^https?:\/\//i.test(text)) return 'must begin with https:// or http://'
  // Checked by hand: after extra slashes or spaces, a URL parser would take whatever comes first for the host.
  const host = /^https?:\/\/([^/?#\\\s]+)\S*$/i.exec(text)?.[1]
  if (host === undefined) return 'is no URL'
  if (as === 'get' && host.search(URL_TOKEN) !== -1)
    return 'may have tokens in its path and query only, not in its host'
  const url = URL.parse(as === 'get' ? text.replaceAll(URL_TOKEN, 'x') : text)
  if (url === null) return 'is no URL'
  if (url.username !== '' || url.password !== '') return 'must not hold a user and password: use basicAuth'
  const address = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return isIP(address) === 0 || mayConnect(address, allowAddresses) ? undefined : `is refused: ${refusalOf(address)}`
}

/** Headers that belong to the connection, or that `forward` itself writes. */
const RESERVED_HEADERS =
  /^(?:connection|content-length|expect|host|idempotency-key|keep-alive|proxy-.*|ringback-.*|te|trailer|transfer-encoding|upgrade|webhook-(?:id|timestamp|signature))$/
/** The characters that Node sends. A line end would begin another header. */
const HEADER_VALUE = /^[\t\u0020-\u007e\u0080-\u00ff]*$/

function resolveHeaders({ headers }: ParsedOptions, resolve: ResolveAction): Record<string, string> {
  const entries = Object.entries(headers).map(([given, text]) => {
    const name = given.toLowerCase()
    const value = resolve.required(`headers.${given}`, text)
    if (!HEADER_NAME.test(name)) resolve.problem(`headers: "${given}" is no name of a header`)
    if (RESERVED_HEADERS.test(name)) resolve.problem(`headers: ${name} is written by forward itself`)
    if (!HEADER_VALUE.test(value)) resolve.problem(`headers.${given} has characters that no header can hold`)
    return [name, value] as const
  })
  return Object.fromEntries(entries)
}

function resolveAuthorization(
  { basicAuth, bearerToken, headers }: ParsedOptions,
  resolve: ResolveAction,
): { authorization?: string } {
  const hasHeader = Object.keys(headers).some((name) => name.toLowerCase() === 'authorization')
  if ([basicAuth !== undefined, bearerToken !== undefined, hasHeader].filter(Boolean).length > 1) {
    resolve.problem('basicAuth, bearerToken and a header "authorization" exclude each other')
  }
  if (basicAuth !== undefined) {
    const username = resolve.required('basicAuth.username', basicAuth.username)
    const password = resolve.required('basicAuth.password', basicAuth.password)
    if (username.includes(':')) resolve.problem('basicAuth.username must not hold ":"')
    return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  }
  if (bearerToken === undefined) return {}
  const token = resolve.required('bearerToken', bearerToken)
  if (!/^[\u0021-\u007e]*$/.test(token)) resolve.problem('bearerToken has characters that no token can hold')
  return { authorization: `Bearer ${token}` }
}

/** Standard Webhooks asks for 24 to 64 bytes. A secret shorter than this is probably a mistake. */
const MIN_KEY_BYTES = 16

function resolveSigningKeys(secrets: ConfigText | ConfigText[], resolve: ResolveAction): Buffer[] {
  const keys = resolve.optional(secrets).map((secret) => fromBase64(secret.replace(/^whsec_/, '')))
  if (keys.length === 0) resolve.problem('sign.secrets: none of them is set')
  if (keys.some((key) => key.length < MIN_KEY_BYTES)) {
    resolve.problem(`sign.secrets: a secret is "whsec_" and base64 of ${MIN_KEY_BYTES} bytes or more`)
  }
  return keys
}

function resolveClientCertificate(
  given: ParsedOptions['clientCertificate'],
  resolve: ResolveAction,
): ClientCertificate | undefined {
  if (given === undefined) return undefined
  const certificate = {
    cert: resolve.required('clientCertificate.cert', given.cert),
    key: resolve.required('clientCertificate.key', given.key),
    ca: given.ca === undefined ? undefined : resolve.required('clientCertificate.ca', given.ca),
  }
  try {
    createSecureContext(certificate)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException // its message could quote the file
    resolve.problem(`clientCertificate: these are no PEM texts of a certificate and its key (${code ?? 'unreadable'})`)
  }
  return certificate
}
