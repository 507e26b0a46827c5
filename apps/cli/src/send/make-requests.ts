import { randomBytes } from 'node:crypto'
import { queryOf } from '@ringback/core/providers/message'
import type { OutgoingRequest, ProviderRequest, Reading, Sample, Source } from '@ringback/core/providers/provider'
import { urlBelow } from '@ringback/core/providers/request-origin'
import { fillSample } from '@ringback/core/providers/sample'
import type { FilledSample } from '@ringback/core/providers/sample'
import type { PlannedCallback, PlannedRequest } from './plan-requests.ts'
import type { RequestToSend } from './send-requests.ts'

// Makes requests from a plan: fills samples in, puts them into their envelope and signs them.

export interface MakeOptions {
  source: Source
  sample: Sample
  /** Where the requests go. */
  url: string
  /** The beginning of the source's URLs for the provider, which signs them. Undefined: the URLs to which requests go. */
  publicBaseUrl: string | undefined
  secret: string | undefined
  wrongContentType: boolean
  now: () => Date
}

const STALE_MS = 3_600_000
/** A byte that cannot occur in JSON, so an envelope holds it only in the place of its callbacks. */
const MARK = Buffer.from([0])

/** Returns functions that make their requests just before they are sent: a million requests would not fit into memory. */
export function makeRequests(plan: PlannedRequest[], options: MakeOptions): (() => RequestToSend)[] {
  const { sample, now } = options
  const contentOf = createContents(plan, ({ kind }) => fillSample(sample, signingTime(kind === 'stale', now)))
  const forgesByUrl =
    plan.some(({ callbacks }) => callbacks.some(({ kind }) => kind === 'forged')) && !canForge(options)
  // Requests that are signed only once, by their first content: a provider that repeats a nonce repeats the whole request.
  const signedOnce = signsNonce(options) ? new WeakMap<FilledSample, OutgoingRequest>() : undefined
  return plan.map(({ callbacks, dropped }) => () => {
    const filled = callbacks.map(contentOf)
    const isForged = callbacks.map(({ kind }) => kind === 'forged')
    const isStale = callbacks[0]!.kind === 'stale'
    const url = forgesByUrl && isForged.every(Boolean) ? withWrongToken(options) : options.url
    return {
      // Otherwise it is signed anew for every attempt, as by a provider whose signature holds a time.
      make() {
        const request = signedOnce?.get(filled[0]!) ?? signed(filled, isForged, isStale, { ...options, url })
        signedOnce?.set(filled[0]!, request)
        return toOutgoing(request, { ...options, url })
      },
      dropped,
      isProviders: !isStale && !isForged.every(Boolean),
    }
  })
}

/** Whether signing puts a proof into each callback, so that genuine and forged ones can come in one request. */
export function provesEach({ source, sample, url, secret, now }: MakeOptions): boolean {
  if (source.envelope === undefined) return false
  const unsigned = unsignedRequest([fillSample(sample, now())], url, source)
  return !source.sign(unsigned, { at: now(), secret }).body.equals(unsigned.body)
}

/**
 * Throws if nothing that the source accepts can be signed: if it knows only public keys, the provider's private key is
 * needed. A given secret may be wrong on purpose, but it must be usable, and there must be something to sign.
 */
export function checkSecret(sourceName: string, options: MakeOptions): void {
  const { source, secret, now } = options
  if (secret !== undefined && !carriesSignature(options)) {
    throw new Error(`What is sent to source "${sourceName}" carries no signature: leave out --secret`)
  }
  let request: OutgoingRequest | undefined
  try {
    request = oneSigned(options)
  } catch (cause) {
    if (secret !== undefined) throw new Error('Nothing can be signed with this --secret', { cause })
  }
  if (secret !== undefined || (request !== undefined && !isRefused(source, request, now()))) return
  throw new Error(
    `What is configured for source "${sourceName}" verifies signatures but makes none: pass the private key as --secret`,
  )
}

/** Whether another secret would change what is sent. It would not if only a password or the URL lets it in. */
function carriesSignature({ source, sample, url, now }: MakeOptions): boolean {
  const at = now()
  const unsigned = unsignedRequest([fillSample(sample, at)], url, source)
  const sign = () => source.sign(unsigned, { at, secret: randomBytes(32).toString('base64') })
  return areDifferent(sign(), sign())
}

/** Whether the source refuses what was signed an hour ago. It does not if no time is signed. */
export function refusesStale(options: MakeOptions): boolean {
  const reading = readBy(options.source, oneSigned(options, { isStale: true }), options.now())
  return reading.kind === 'refused' || reading.callbacks.some((one) => one.kind !== 'genuine' || 'wouldRefuse' in one)
}

/** Whether the signature covers a nonce but not the body. Repetitions and retries are then the same request again. */
function signsNonce(options: MakeOptions): boolean {
  // Batches are composed anew, and none of them signs a nonce.
  if (options.source.envelope !== undefined) return false
  const reading = readBy(options.source, oneSigned(options), options.now())
  return reading.kind === 'read' && reading.callbacks.some((callback) => 'nonces' in callback)
}

function readBy(source: Source, request: OutgoingRequest, receivedAt: Date): Reading {
  return source.read(received(request, receivedAt))
}

/** A request as ingest would get it, but without the sender's address, which is not known here. */
export function received(request: OutgoingRequest, receivedAt: Date): ProviderRequest {
  return { ...request, header: (name) => request.headers[name], remoteAddress: undefined, receivedAt }
}

function isRefused(source: Source, request: OutgoingRequest, receivedAt: Date): boolean {
  const reading = readBy(source, request, receivedAt)
  return reading.kind === 'refused' && reading.as === 'forged' && reading.reason.endsWith('_mismatch')
}

/** Whether a forged request differs at all. It does not if the URL alone is the proof. */
function canForge({ source, sample, url, secret, now }: MakeOptions): boolean {
  const at = now()
  const unsigned = unsignedRequest([fillSample(sample, at)], url, source)
  const forged = source.sign(unsigned, { at, secret, forged: true })
  const genuine = source.sign(unsigned, { at, secret })
  return areDifferent(forged, genuine)
}

function areDifferent(one: OutgoingRequest, other: OutgoingRequest): boolean {
  return (
    JSON.stringify([one.url, one.headers]) !== JSON.stringify([other.url, other.headers]) ||
    !one.body.equals(other.body)
  )
}

function withWrongToken({ source, url }: MakeOptions): string {
  const wrong = new URL(url)
  const parts = wrong.pathname.split('/')
  if (!source.urlTokens.includes(decodeURIComponent(parts.at(-1)!))) {
    throw new Error(
      'Nothing but the address lets requests in at this source, so none can be forged: leave out --forged',
    )
  }
  wrong.pathname = [...parts.slice(0, -1), 'forged'].join('/')
  return wrong.href
}

function signingTime(isStale: boolean, now: () => Date): Date {
  return new Date(now().getTime() - (isStale ? STALE_MS : 0))
}

/** Makes the function that fills samples. One is kept only as long as a duplicate of it is still to come. */
function createContents(
  plan: PlannedRequest[],
  fill: (callback: PlannedCallback) => FilledSample,
): (callback: PlannedCallback) => FilledSample {
  const uses = new Map<number, number>()
  for (const { callbacks } of plan) {
    for (const { kind, content } of callbacks) if (kind === 'duplicate') uses.set(content, (uses.get(content) ?? 1) + 1)
  }
  const kept = new Map<number, FilledSample>()
  return (callback) => {
    const { content } = callback
    const left = (uses.get(content) ?? 1) - 1
    const filled = kept.get(content) ?? fill(callback)
    if (left === 0) kept.delete(content)
    else kept.set(content, filled)
    uses.set(content, left)
    return filled
  }
}

/** The request to `url` with these samples in it. */
export function unsignedRequest(
  filled: FilledSample[],
  url: string,
  { envelope }: Pick<Source, 'envelope'>,
): OutgoingRequest {
  const { method, query, headers, body } = filled[0]!
  const search = new URLSearchParams(query).toString()
  return {
    method,
    url: search === '' ? url : `${url}${url.includes('?') ? '&' : '?'}${search}`,
    headers,
    body: envelope === undefined || body.length === 0 ? body : envelope(filled.map((item) => item.body)),
  }
}

/** A genuine request with one callback. */
function oneSigned(options: MakeOptions, { isStale } = { isStale: false }): OutgoingRequest {
  const filled = fillSample(options.sample, signingTime(isStale, options.now))
  return signed([filled], [false], isStale, options)
}

function signed(
  filled: FilledSample[],
  isForged: boolean[],
  isStale: boolean,
  { source, url, publicBaseUrl, secret, now }: MakeOptions,
): OutgoingRequest {
  const at = signingTime(isStale, now)
  const sign = (samples: FilledSample[], forged: boolean) =>
    source.sign(unsignedRequest(samples, publicUrlOf(url, publicBaseUrl), source), { at, secret, forged })
  const { envelope } = source
  if (envelope === undefined || new Set(isForged).size === 1) return sign(filled, isForged[0]!)
  // Each callback has a proof of its own here, so each is signed alone and taken out of its envelope again.
  const frame = envelope([MARK])
  const start = frame.indexOf(MARK)
  const end = start + MARK.length - frame.length
  const callbacks = filled.map((item, index) => sign([item], isForged[index]!).body.subarray(start, end))
  return { ...sign(filled, false), body: envelope(callbacks) }
}

/** The URL as the provider knows it. */
export function publicUrlOf(url: string, publicBaseUrl: string | undefined): string {
  const base = publicBaseUrl?.replace(/\/+$/, '')
  if (publicBaseUrl === undefined || url.startsWith(`${base}/`)) return url
  const { pathname, search } = new URL(url)
  return urlBelow(publicBaseUrl, url === base ? '/' : pathname + search)
}

/** The signed request, now addressed to `url`. What signing has added to the query stays. */
function toOutgoing(
  { method, url: signedUrl, headers, body }: OutgoingRequest,
  { url, wrongContentType }: Pick<MakeOptions, 'url' | 'wrongContentType'>,
): ReturnType<RequestToSend['make']> {
  const query = queryOf(signedUrl)
  const contentType = headers['content-type']
  const other = contentType?.includes('json') ? 'application/x-www-form-urlencoded' : 'application/json'
  return {
    method,
    path: `${new URL(url).pathname}${query === '' ? '' : `?${query}`}`,
    headers: wrongContentType && contentType !== undefined ? { ...headers, 'content-type': other } : headers,
    body,
  }
}
