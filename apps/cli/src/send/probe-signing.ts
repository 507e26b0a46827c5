import { randomBytes } from 'node:crypto'
import type { OutgoingRequest, ProviderRequest, Reading, Source } from '@ringback/core/providers/provider'
import { fillSample } from '@ringback/core/providers/sample'
import { signSample, unsignedRequest } from './sign-requests.ts'
import type { SignOptions } from './sign-requests.ts'

// What a sender's way of signing can do, found by signing a sample and reading it as ingest would.

/** Whether signing puts a proof into each callback, so that genuine and forged ones can come in one request. */
export function provesEach({ source, sample, url, secret, now }: SignOptions): boolean {
  if (source.envelope === undefined) return false
  const unsigned = unsignedRequest([fillSample(sample, now())], url, source)
  return !source.sign(unsigned, { at: now(), secret }).body.equals(unsigned.body)
}

/**
 * Throws if nothing that the source accepts can be signed: if it knows only public keys, the provider's private key is
 * needed. A given secret may be wrong on purpose, but it must be usable, and there must be something to sign.
 */
export function checkSecret(sourceName: string, options: SignOptions): void {
  const { source, secret, now } = options
  if (secret !== undefined && !carriesSignature(options)) {
    throw new Error(`What is sent to source "${sourceName}" carries no signature: leave out --secret`)
  }
  let request: OutgoingRequest | undefined
  try {
    request = signSample(options)
  } catch (cause) {
    if (secret !== undefined) throw new Error('Nothing can be signed with this --secret', { cause })
  }
  if (secret !== undefined || (request !== undefined && !isRefused(source, request, now()))) return
  throw new Error(
    `What is configured for source "${sourceName}" verifies signatures but makes none: pass the private key as --secret`,
  )
}

/** Whether the source refuses what was signed an hour ago. It does not if no time is signed. */
export function refusesStale(options: SignOptions): boolean {
  const reading = readBy(options.source, signSample(options, { isStale: true }), options.now())
  return reading.kind === 'refused' || reading.callbacks.some((one) => one.kind !== 'genuine' || 'wouldRefuse' in one)
}

/** Whether the signature covers a nonce but not the body. Repetitions and retries are then the same request again. */
export function signsNonce(options: SignOptions): boolean {
  // Batches are composed anew, and none of them signs a nonce.
  if (options.source.envelope !== undefined) return false
  const reading = readBy(options.source, signSample(options), options.now())
  return reading.kind === 'read' && reading.callbacks.some((callback) => 'nonces' in callback)
}

/** Whether a forged request differs at all. It does not if the URL alone is the proof. */
export function canForge({ source, sample, url, secret, now }: SignOptions): boolean {
  const at = now()
  const unsigned = unsignedRequest([fillSample(sample, at)], url, source)
  const forged = source.sign(unsigned, { at, secret, forged: true })
  const genuine = source.sign(unsigned, { at, secret })
  return areDifferent(forged, genuine)
}

/** A request as ingest would get it, but without the sender's address, which is not known here. */
export function received(request: OutgoingRequest, receivedAt: Date): ProviderRequest {
  return { ...request, header: (name) => request.headers[name], remoteAddress: undefined, receivedAt }
}

/** Whether another secret would change what is sent. It would not if only a password or the URL lets it in. */
function carriesSignature({ source, sample, url, now }: SignOptions): boolean {
  const at = now()
  const unsigned = unsignedRequest([fillSample(sample, at)], url, source)
  const sign = () => source.sign(unsigned, { at, secret: randomBytes(32).toString('base64') })
  return areDifferent(sign(), sign())
}

function isRefused(source: Source, request: OutgoingRequest, receivedAt: Date): boolean {
  const reading = readBy(source, request, receivedAt)
  return reading.kind === 'refused' && reading.as === 'forged' && reading.reason.endsWith('_mismatch')
}

function readBy(source: Source, request: OutgoingRequest, receivedAt: Date): Reading {
  return source.read(received(request, receivedAt))
}

function areDifferent(one: OutgoingRequest, other: OutgoingRequest): boolean {
  return (
    JSON.stringify([one.url, one.headers]) !== JSON.stringify([other.url, other.headers]) ||
    !one.body.equals(other.body)
  )
}
