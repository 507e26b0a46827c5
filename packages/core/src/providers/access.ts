import { timingSafeEqual, hash } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import { HEADER_NAME } from '../checked-options.ts'
import type { ConfigText, Resolve } from '../config.ts'
import type { OutgoingRequest, ProviderRequest, RejectReason, VerifiedBy } from './provider.ts'

// What lets a request in beside or instead of a signature. All that is configured must hold.

/** Options that every source takes, whatever its provider. */
export interface AccessOptions {
  /** Secret last parts of the URL, `/callbacks/<source>/<token>`; any one of them. */
  urlTokens?: ConfigText | ConfigText[]
  /** HTTP Basic authentication. The password may hold ":", the user name may not. */
  basicAuth?: { username: ConfigText; password: ConfigText | ConfigText[] }
  /** `Authorization: Bearer <token>`; any one of them. */
  bearerTokens?: ConfigText | ConfigText[]
  /** Headers that must come with one of these values, such as `{ 'X-API-Key': env('...') }`. */
  headers?: Record<string, ConfigText | ConfigText[]>
  /** Addresses and CIDR ranges that may send. Behind a proxy, list it in `trustedProxies`. */
  addresses?: string[]
}

/** Access rules with their values in place. Holds secrets. */
export interface Access {
  urlTokens: string[]
  /** Whether anything is asked for at all. */
  isRestricted: boolean
  /** Whether something is asked for that only the provider knows, and a value for it is set. */
  asksForSecret: boolean
  /** Headers that credentials come in, lower case. */
  headers: string[]
  challenge: string | undefined
  /** How many combinations of these secrets let a request in: one if none of them is a list. */
  combinations: number
  /** What passing it proves, or why it is refused. That the URL token is one of `urlTokens` was seen before. */
  check: (request: ProviderRequest) => Admitted | { ok: false; reason: RejectReason }
  /** Adds the first of the configured credentials, or wrong ones. */
  authorize: (request: OutgoingRequest, forged: boolean) => OutgoingRequest
}

export interface Admitted {
  ok: true
  covers: VerifiedBy
  /** Which combination of secrets let it in, from 0. Undefined if the URL token was one of several and is not known. */
  combination: number | undefined
}

interface Credential {
  header: string
  /** The values of the header that are right, as a sender writes them. */
  accepted: string[]
  /** What is compared: the decoded credentials, since one may be spelled in several ways. Undefined for no credentials. */
  normalize: (value: string) => string | undefined
}

/** What a path holds as it is (RFC 3986): another spelling of the same token would not be found. */
const PATH_TOKEN = /^[\w.~!$&'()*+,;=:@-]+$/
const BEARER_TOKEN = /^[\u0021-\u007e]+$/
/** As Node reads it, without white space at its ends. */
const HEADER_VALUE = /^[\u0021-\u007e\u0080-\u00ff](?:[\t\u0020-\u007e\u0080-\u00ff]*[\u0021-\u007e\u0080-\u00ff])?$/

/** Reads the options. */
export function resolveAccess(options: AccessOptions, resolve: Resolve): Access {
  const urlTokens = resolve.optional(options.urlTokens ?? [])
  if (!urlTokens.every((token) => PATH_TOKEN.test(token))) {
    resolve.problem(
      'urlTokens: a token has characters that a path holds only encoded; use letters, digits, "-" and "_"',
    )
  }
  const credentials: Credential[] = []
  if (options.basicAuth !== undefined) {
    const { username, password } = options.basicAuth
    const found = resolve.allOrNone({ 'basicAuth.username': [username], 'basicAuth.password': [password].flat() })
    if (found !== undefined) {
      const [name = ''] = found['basicAuth.username']
      if (name.includes(':')) resolve.problem('basicAuth.username may not hold ":", which ends it in HTTP')
      credentials.push(
        basicCredential(found['basicAuth.password'].map((secret) => `Basic ${base64(`${name}:${secret}`)}`)),
      )
    }
  }
  const bearerTokens = resolve.optional(options.bearerTokens ?? [])
  if (bearerTokens.length > 0) {
    if (!bearerTokens.every((token) => BEARER_TOKEN.test(token))) {
      resolve.problem('bearerTokens: a token has white space, or other characters that no token can hold')
    }
    credentials.push(bearerCredential(bearerTokens.map((token) => `Bearer ${token}`)))
  }
  for (const [name, values] of Object.entries(options.headers ?? {})) {
    const accepted = resolve.optional(values)
    if (!HEADER_NAME.test(name)) resolve.problem(`headers: "${name}" is no name of a header`)
    if (!accepted.every((value) => HEADER_VALUE.test(value))) {
      resolve.problem(`headers.${name}: a value has white space at an end, or characters that no header can hold`)
    }
    if (accepted.length > 0) credentials.push({ header: name.toLowerCase(), accepted, normalize: (value) => value })
  }
  const names = credentials.map(({ header }) => header)
  for (const name of new Set(names.filter((header, index) => names.indexOf(header) < index))) {
    resolve.problem(`basicAuth, bearerTokens and headers: more than one of them needs the header "${name}"`)
  }
  const addresses = options.addresses === undefined ? undefined : addressList(options.addresses, resolve.problem)
  const asksForSecret = urlTokens.length > 0 || credentials.length > 0
  const lists = [urlTokens, ...credentials.map(({ accepted }) => accepted)]
  return {
    urlTokens,
    asksForSecret,
    // Also those of which no value is set: what comes in them is meant to be secret.
    headers: [
      ...new Set([
        ...credentials.map(({ header }) => header),
        ...Object.keys(options.headers ?? {}).map((name) => name.toLowerCase()),
      ]),
    ],
    isRestricted: asksForSecret || addresses !== undefined,
    combinations: lists.reduce((product, { length }) => product * Math.max(length, 1), 1),
    challenge: credentials.some(({ accepted }) => accepted.some((value) => value.startsWith('Basic ')))
      ? 'Basic realm="callbacks", charset="UTF-8"'
      : undefined,
    check(request) {
      if (addresses !== undefined && !addresses.has(request.remoteAddress)) {
        return { ok: false, reason: 'address_not_allowed' }
      }
      let combination = tokenPlace(urlTokens, request.urlToken)
      for (const credential of credentials) {
        const presented = request.header(credential.header)
        if (presented === undefined) return { ok: false, reason: 'credentials_missing' }
        const place = placeOf(credential, presented, request.credentialDigest)
        if (place === -1) return { ok: false, reason: 'credentials_mismatch' }
        if (combination !== undefined) combination = combination * credential.accepted.length + place
      }
      return { ok: true, covers: asksForSecret ? 'secret' : 'none', combination }
    },
    authorize(request, forged) {
      const own = Object.fromEntries(
        credentials.map(({ header, accepted }) => [header, forged ? 'forged' : accepted[0]!]),
      )
      return { ...request, headers: { ...request.headers, ...own } }
    },
  }
}

/** The column is a smallint, and no callback may be lost for having a token and a secret of hundreds each. */
const MAX_SECRET_NUMBER = 32_767

/**
 * The number of the secrets that verified something, from 1: of the signature's, if it has one, and of those that let the
 * request in. Of several lists it is that of the combination, the last list counting fastest. Undefined if no secret did,
 * or if it is not known.
 */
export function secretNumber(access: Access, { combination }: Admitted, signatureNumber?: number): number | undefined {
  if (combination === undefined || (signatureNumber === undefined && !access.asksForSecret)) return undefined
  const number = ((signatureNumber ?? 1) - 1) * access.combinations + combination + 1
  return number > MAX_SECRET_NUMBER ? undefined : number
}

function tokenPlace(urlTokens: readonly string[], urlToken: string | undefined): number | undefined {
  if (urlTokens.length < 2) return 0
  return urlToken === undefined ? undefined : placeInConstantTime(urlTokens, urlToken)
}

function placeOf(
  { accepted, normalize }: Credential,
  presented: string,
  credentialDigest: ProviderRequest['credentialDigest'],
): number {
  if (credentialDigest !== undefined) return placeInConstantTime(accepted.map(credentialDigest), presented)
  const found = normalize(presented)
  if (found === undefined) return -1
  return placeInConstantTime(
    accepted.map((value) => normalize(value)!),
    found,
  )
}

/** Where `text` is among `candidates`, or -1, in a time that tells nothing about them but how many they are. */
export function placeInConstantTime(candidates: readonly string[], text: string): number {
  const given = hash('sha256', text, 'buffer')
  const matches = candidates.map((candidate) => timingSafeEqual(hash('sha256', candidate, 'buffer'), given))
  return matches.indexOf(true)
}

function basicCredential(accepted: string[]): Credential {
  return {
    header: 'authorization',
    accepted,
    // As bytes: user names and passwords need not be UTF-8 on the wire.
    normalize(value) {
      const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(value)?.[1]
      return encoded && Buffer.from(encoded, 'base64').toString('latin1')
    },
  }
}

function bearerCredential(accepted: string[]): Credential {
  return { header: 'authorization', accepted, normalize: (value) => /^bearer +(\S+)$/i.exec(value)?.[1] }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}

/** A set of addresses. */
export interface AddressList {
  has: (address: string | undefined) => boolean
}

/** Reads addresses and CIDR ranges, IPv4 and IPv6; an IPv4 address in IPv6 clothes is the IPv4 address. */
export function addressList(ranges: readonly string[], problem: (text: string) => void): AddressList {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', prefix, ...more] = range.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const bits = family === 'ipv6' ? 128 : 32
    const isPrefix = prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits)
    if (isIP(address) === 0 || !isPrefix || more.length > 0) {
      problem(`"${range}" is no IP address and no CIDR range such as 10.0.0.0/8`)
    } else list.addSubnet(address, prefix === undefined ? bits : Number(prefix), family)
  }
  // Asked for every request, and mostly of a list that is empty.
  if (ranges.length === 0) return { has: () => false }
  return {
    has(address) {
      const family = isIP(address ?? '')
      return family !== 0 && list.check(address!, family === 6 ? 'ipv6' : 'ipv4')
    },
  }
}
