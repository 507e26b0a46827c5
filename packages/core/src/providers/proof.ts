import { createHash, createHmac, createPrivateKey, createPublicKey, sign, timingSafeEqual, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Algorithm, Key, Proof } from './provider.ts'

// The one place where signatures are made and compared.

/** Whether the key made this proof. Compares decoded bytes in constant time; never throws. */
export function holds(proof: Proof, key: Key): boolean {
  if (!fits(proof, key)) return false
  if (proof.algorithm === 'ed25519') {
    // For a signature of another length OpenSSL answers false and does not throw.
    return verify(null, proof.signed, key, proof.signature)
  }
  const expected = digest(proof.algorithm, key as Buffer, proof.signed)
  return expected.length === proof.signature.length && timingSafeEqual(expected, proof.signature)
}

/** Whether the key is of the proof's kind: requests may present proofs of both kinds, and sources hold keys of both. */
export function fits(proof: Proof, key: Key): boolean {
  return Buffer.isBuffer(key) === (proof.algorithm !== 'ed25519')
}

/** The signature that a holder of `key` makes. Not for Ed25519, of which receivers hold only the public key. */
export function digest(algorithm: Exclude<Algorithm, 'ed25519'>, key: Buffer, signed: Buffer | string): Buffer {
  if (algorithm === 'md5') return createHash('md5').update(signed).update(key).digest()
  return createHmac(algorithm.slice('hmac-'.length), key).update(signed).digest()
}

/** The beginning of an Ed25519 public key in DER (RFC 8410); the key's 32 bytes follow. */
export const ED25519_PUBLIC = Buffer.from('302a300506032b6570032100', 'hex')
/** The same for a private key. */
const ED25519_PRIVATE = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Makes a public key of its 32 bytes. Throws if there are not 32, with a message that names their `encoding`. */
export function ed25519PublicKey(bytes: Buffer, encoding = 'base64'): KeyObject {
  if (bytes.length !== 32) throw new Error(`an Ed25519 public key is ${encoding} of 32 bytes`)
  return createPublicKey({ key: Buffer.concat([ED25519_PUBLIC, bytes]), format: 'der', type: 'spki' })
}

/** Signs as the provider would. `privateKey` is its 32 bytes; throws if there are not 32. */
export function signEd25519(privateKey: Buffer, signed: Buffer): Buffer {
  if (privateKey.length !== 32) throw new Error('an Ed25519 private key is base64 of 32 bytes')
  const key = createPrivateKey({ key: Buffer.concat([ED25519_PRIVATE, privateKey]), format: 'der', type: 'pkcs8' })
  return sign(null, signed, key)
}

const HEX = /^(?:[0-9a-f]{2})+$/i
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/
const BASE64URL = /^[A-Za-z0-9_-]+$/

/** Decodes hex. Empty, so that it matches nothing, for anything else. */
export function fromHex(text: string | undefined): Buffer {
  return text !== undefined && HEX.test(text) ? Buffer.from(text, 'hex') : Buffer.alloc(0)
}

/** The same for padded base64. Unused bits of the last digit must be 0, so that no other text means the same bytes. */
export function fromBase64(text: string | undefined): Buffer {
  if (text === undefined || !BASE64.test(text)) return Buffer.alloc(0)
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : Buffer.alloc(0)
}

/** The same for base64url without padding, as JWTs have it. */
export function fromBase64Url(text: string | undefined): Buffer {
  return text !== undefined && BASE64URL.test(text) ? Buffer.from(text, 'base64url') : Buffer.alloc(0)
}

/** The same for base64 in either alphabet, padded or not. */
export function fromAnyBase64(text: string): Buffer {
  const digits = text.replaceAll('-', '+').replaceAll('_', '/')
  return fromBase64(digits.includes('=') ? digits : digits.padEnd(Math.ceil(digits.length / 4) * 4, '='))
}

const UNIX_SECONDS = /^\d{1,11}$/

/** A time written as whole seconds since 1970, digits and nothing else; undefined for anything else. */
export function fromUnixSeconds(text: string): Date | undefined {
  return UNIX_SECONDS.test(text) ? new Date(Number(text) * 1000) : undefined
}

/** The whole seconds from 1970 to a time. */
export function toUnixSeconds(time: Date): number {
  return Math.floor(time.getTime() / 1000)
}

const ISO_TIME = /^(\d{4}-\d\d-(\d\d))T(?!24)\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)$/

/**
 * A time written as ISO 8601 with its zone; undefined for anything else, times without a zone and days that no month has
 * among them.
 */
export function fromIsoTime(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const [, date, day] = ISO_TIME.exec(text) ?? []
  // Date counts on into the next month: it takes 30 February for 2 March.
  if (date === undefined || new Date(date).getUTCDate() !== Number(day)) return undefined
  const time = new Date(text)
  return Number.isNaN(time.getTime()) ? undefined : time
}
