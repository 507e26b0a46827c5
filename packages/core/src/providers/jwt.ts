import { hash, timingSafeEqual } from 'node:crypto'
import { isObject } from '../is-object.ts'
import { digest, fromBase64Url, fromHex, toUnixSeconds } from './proof.ts'
import type { Proof, RejectReason, SignedHash, VerifiedBy } from './provider.ts'

// Signed tokens (JWT in its compact form, RFC 7515 and 7519) as webhooks carry them: an HMAC, and in the claims hashes of
// what else the request holds. Only the algorithms that a preset names are accepted, so that a token can't choose "none", or
// a public-key algorithm with the shared secret as its key.

/** The longest token that is read. Real ones have a few hundred characters. */
const MAX_LENGTH = 8192
/** How far the sender's clock may differ when `nbf` and `exp` are checked. */
const SKEW_SECONDS = 5
/** Beyond any time that senders mean, and within what a Date holds. */
const MAX_SECONDS = 1e11

const ALGORITHMS = { HS256: 'hmac-sha256', HS384: 'hmac-sha384', HS512: 'hmac-sha512' } as const

export type JwtAlgorithm = keyof typeof ALGORITHMS

export type Claims = Record<string, unknown>

/** A token that is well-formed and not yet verified. */
export interface Jwt {
  algorithm: JwtAlgorithm
  claims: Claims
  signed: Buffer
  signature: Buffer
}

/** Takes a token apart. Undefined for anything that is not well-formed or not signed by one of `algorithms`. */
export function parseJwt(token: string, algorithms: readonly JwtAlgorithm[]): Jwt | undefined {
  if (token.length > MAX_LENGTH) return undefined
  const parts = token.split('.')
  if (parts.length !== 3) return undefined
  const [header, claims, signature] = parts.map(strictBase64Url)
  const head = parseObject(header)
  const body = parseObject(claims)
  const algorithm = algorithms.find((name) => name === head?.alg)
  // "crit" names extensions that must be understood; there are none here.
  if (body === undefined || signature === undefined || algorithm === undefined || head?.crit !== undefined)
    return undefined
  return { algorithm, claims: body, signed: Buffer.from(`${parts[0]}.${parts[1]}`), signature }
}

/** A token as a proof. What its claims say is for the caller to judge. */
export function proofOf(jwt: Jwt, covers: VerifiedBy): Proof {
  const { signed, signature } = jwt
  return {
    algorithm: ALGORITHMS[jwt.algorithm],
    signed,
    signature,
    encoding: 'base64',
    covers,
    signedAt: issuedAt(jwt),
  }
}

/** Why a token does not hold at `now`, by `exp` and `nbf`; `iat` must only be a time. Missing claims limit nothing. */
export function timeProblem({ claims }: Jwt, now: Date): RejectReason | undefined {
  const { exp, nbf, iat } = claims
  if (![exp, nbf, iat].every((time) => time === undefined || isTime(time))) return 'timestamp_unreadable'
  const seconds = toUnixSeconds(now)
  const isOver = exp !== undefined && Number(exp) <= seconds - SKEW_SECONDS
  const isEarly = nbf !== undefined && Number(nbf) > seconds + SKEW_SECONDS
  return isOver || isEarly ? 'timestamp_out_of_tolerance' : undefined
}

/** Whether a claim is the SHA-256 of these bytes, in hex. */
export function isHashOf(claim: unknown, bytes: Buffer | string): boolean {
  return agrees(signedHash('', claim, bytes))
}

/** A claim that should be the SHA-256 of these bytes in hex, beside what it should be. */
export function signedHash(name: string, claim: unknown, bytes: Buffer | string): SignedHash {
  return { name, presented: typeof claim === 'string' ? claim : '', expected: hashClaim(bytes) }
}

/** Whether a hash is the one that was expected, in small letters or in capitals. */
export function agrees({ presented, expected }: SignedHash): boolean {
  const [a, b] = [fromHex(presented), fromHex(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** The SHA-256 of these bytes in hex, as claims hold it. */
export function hashClaim(bytes: Buffer | string): string {
  return hash('sha256', bytes)
}

/** A token as a provider makes it. */
export function signJwt(claims: Claims, secret: string, algorithm: JwtAlgorithm = 'HS256'): string {
  const signed = `${encode({ alg: algorithm, typ: 'JWT' })}.${encode(claims)}`
  return `${signed}.${digest(ALGORITHMS[algorithm], Buffer.from(secret), signed).toString('base64url')}`
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

/** A token that does not say when it was made counts as made in 1970, so that a time limit, if one is set, refuses it. */
function issuedAt({ claims }: Jwt): Date {
  return new Date(isTime(claims.iat) ? claims.iat * 1000 : 0)
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= MAX_SECONDS
}

/** One spelling only: no padding, and no bits behind the last byte that decoders would drop. */
function strictBase64Url(text: string): Buffer | undefined {
  const bytes = fromBase64Url(text)
  return bytes.length > 0 && bytes.toString('base64url') === text ? bytes : undefined
}

function parseObject(bytes: Buffer | undefined): Claims | undefined {
  if (bytes === undefined) return undefined
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}
