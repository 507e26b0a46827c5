import { randomUUIDv7 } from 'node:crypto'
import { queuedCallback } from '@ringback/core/callback'
import type { GroupPart, QueuedRefusal } from '@ringback/core/callback'
import { placeInConstantTime } from '@ringback/core/providers/access'
import type { Answer, Source } from '@ringback/core/providers/provider'
import { clientAddress, urlToVerify } from '@ringback/core/providers/request-origin'
import type { OriginSettings } from '@ringback/core/providers/request-origin'
import type { Allowance } from './allowance.ts'
import type { Enqueuer } from './enqueue.ts'
import { headersToKeep, redact } from './headers.ts'
import type { Body } from './read-body.ts'
import type { InTurn } from './take-turns.ts'

/** One HTTP request to `/callbacks/:source[/:token]`, its body not read yet. */
export interface IncomingCallbackRequest {
  sourceName: string
  token: string | undefined
  method: string
  /** Path and query. */
  url: string
  headers: Record<string, string | string[] | undefined>
  /** The address of the connection's other end: a proxy's, if there is one. */
  remoteAddress: string | undefined
  /** The traceparent of the request's span, if traces are on. */
  traceparent: string | undefined
  readBody: () => Promise<Body>
}

/** What became of a request. There is no `duplicate`: only the worker can tell, and the answer is the same. */
export type Outcome =
  | { kind: 'accepted'; callbacks: number; refused: number; answer: Answer }
  | { kind: 'unknown_source' }
  | { kind: 'method_not_allowed'; allowed: readonly string[] }
  | { kind: 'too_large' }
  | ({ kind: 'forged'; challenge: string | undefined } & Refused)
  | ({ kind: 'unreadable' } & Refused)
  | { kind: 'not_durable'; cause: unknown }
  | { kind: 'client_gone' }
  | { kind: 'overloaded' }

/** How many callbacks of a request were refused, and each reason once. */
interface Refused {
  refused: number
  reasons: readonly string[]
}

export interface ReceiveDependencies {
  sources: ReadonlyMap<string, Source>
  enqueue: Enqueuer['enqueue']
  inTurn: InTurn
  mayQuarantine: Allowance
  /** Counts a refusal that is not kept. */
  countDropped: (source: string, reason: string) => void
  /** Called for each refusal, kept or not. */
  onRefused?: (source: string, reason: string) => void
  origin: OriginSettings
  /** Makes a keyed digest of a credential, so that quarantine can compare it but not show it. Undefined: it is redacted. */
  credentialDigest: ((credential: string) => string) | undefined
  now: () => Date
}

/** Finds the source, reads, verifies, splits, makes durable: everything that happens before the answer. Never throws. */
export async function receiveRequest(deps: ReceiveDependencies, request: IncomingCallbackRequest): Promise<Outcome> {
  const source = findSource(deps.sources, request)
  if (source === undefined) return { kind: 'unknown_source' }
  const allowed = methodsOf(source)
  if (!allowed.includes(request.method)) return { kind: 'method_not_allowed', allowed }

  const body = await request.readBody()
  if (body.kind === 'client_gone' || body.kind === 'overloaded') return body
  if (body.kind === 'too_large') {
    deps.onRefused?.(request.sourceName, 'too_large')
    deps.countDropped(request.sourceName, 'too_large')
    return body
  }

  const outcome = await deps.inTurn(body.bytes.length, () => receiveBody(deps, source, request, body.bytes))
  return outcome ?? { kind: 'overloaded' }
}

/** Verifies, splits, makes durable. */
async function receiveBody(
  deps: ReceiveDependencies,
  source: Source,
  request: IncomingCallbackRequest,
  body: Buffer,
): Promise<Outcome> {
  const header = (name: string) => [request.headers[name]].flat()[0]
  const inner = { target: request.url, header, remoteAddress: request.remoteAddress }
  const remoteAddress = clientAddress(deps.origin, inner)
  const reading = source.read({
    method: request.method,
    url: urlToVerify(source, deps.origin, inner),
    body,
    header,
    remoteAddress,
    receivedAt: deps.now(),
    urlToken: request.token,
  })
  const share = SHARED_BYTES / (reading.kind === 'read' ? reading.callbacks.length : 1)
  const from: ReceivedRequest = { source, request, remoteAddress, share }
  if (reading.kind === 'refused') {
    const { as, reason, body: bytes } = reading
    const parts = quarantine(deps, from, { scope: 'request', reason, bytes })
    return makeDurable(deps, parts, refusal(source, as, { refused: 1, reasons: [reason] }))
  }

  const parts: GroupPart[] = []
  const count = { genuine: 0, forged: 0, unreadable: 0 }
  const reasons = new Set<string>()
  const kept = { ...whatIsKept(from, redact), traceparent: request.traceparent }
  for (const callback of reading.callbacks) {
    count[callback.kind] += 1
    if (callback.kind === 'genuine')
      parts.push({ kind: 'callbacks', json: JSON.stringify(queuedCallback(callback, kept)) })
    else {
      reasons.add(callback.reason)
      parts.push(...quarantine(deps, from, { ...callback, scope: 'callback', bytes: callback.raw }))
    }
  }
  const refused = count.forged + count.unreadable
  if (count.genuine > 0 || refused === 0) {
    return makeDurable(deps, parts, { kind: 'accepted', callbacks: count.genuine, refused, answer: source.answer })
  }
  const as = count.forged > 0 ? 'forged' : 'unreadable'
  return makeDurable(deps, parts, refusal(source, as, { refused, reasons: [...reasons] }))
}

/** PUT is accepted wherever POST is. */
function methodsOf({ methods }: Source): readonly string[] {
  return methods.includes('POST') && !methods.includes('PUT') ? [...methods, 'PUT'] : methods
}

function refusal({ challenge }: Source, as: 'forged' | 'unreadable', refused: Refused): Outcome {
  return as === 'forged' ? { kind: as, ...refused, challenge } : { kind: as, ...refused }
}

/** A refusal, like a 200, is answered only once it is durable: if it is our secret that is wrong, nothing may be lost. */
async function makeDurable(deps: ReceiveDependencies, parts: GroupPart[], outcome: Outcome): Promise<Outcome> {
  if (parts.length === 0) return outcome
  try {
    await deps.enqueue(parts)
    return outcome
  } catch (cause) {
    return { kind: 'not_durable', cause }
  }
}

/** The source of that name, if the URL's token is one of its tokens, or if neither the URL nor the source has a token. */
export function findSource(
  sources: ReadonlyMap<string, Source>,
  { sourceName, token }: { sourceName: string; token: string | undefined },
): Source | undefined {
  const source = sources.get(sourceName)
  if (source === undefined) return undefined
  if (token === undefined) return source.urlTokens.length === 0 ? source : undefined
  return placeInConstantTime(source.urlTokens, token) === -1 ? undefined : source
}

/** The request that parts come from, with its source. */
interface ReceivedRequest {
  source: Source
  request: IncomingCallbackRequest
  remoteAddress: string | undefined
  /** How many bytes of the URL, and how many of the headers, are kept with each callback. */
  share: number
  /** Made for the first refusal. */
  refusalBase?: RefusalBase
}

/** What all refusals of one request have in common, and its size as JSON. */
interface RefusalBase {
  kept: Kept & Pick<QueuedRefusal, 'remoteAddress'>
  bytes: number
}

/** URL and headers are stored with each callback, so all callbacks of a request share this for the one and for the other. */
const SHARED_BYTES = 1024 * 1024
const MAX_HEADER_BYTES = 8 * 1024

/** What is kept of a request besides its body. */
interface Kept {
  source: string
  method: string
  url: string
  headers: Record<string, string>
}

/**
 * Where the path ends in a secret token, the path is rebuilt, because a request can spell the token in several ways. A slash
 * after the token stays, because providers that sign the URL sign it too.
 */
function whatIsKept(
  { source, request: { sourceName, method, url, token, headers }, share }: ReceivedRequest,
  replaceCredential: (credential: string) => string,
): Kept {
  const [path = ''] = url.split('?', 1)
  const slash = path.endsWith('/') ? '/' : ''
  const safeUrl = token === undefined ? url : `/callbacks/${sourceName}/***${slash}${url.slice(path.length)}`
  return {
    source: sourceName,
    method,
    url: safeUrl.slice(0, share),
    headers: headersToKeep(headers, source, replaceCredential, Math.min(share, MAX_HEADER_BYTES)),
  }
}

/** About as much as id, reason and scope take in a row of quarantine. */
const ROW_BYTES = 128

/**
 * The part that keeps a refusal, or none if the source's allowance is used up; the refusal is then only counted. The
 * allowance is checked before the part is made, because a request may hold thousands of refusals.
 */
function quarantine(
  deps: ReceiveDependencies,
  from: ReceivedRequest,
  refused: { scope: 'request' | 'callback'; reason: string; bytes: Buffer; callbackId?: string },
): GroupPart[] {
  const { scope, reason, bytes, callbackId } = refused
  const { sourceName } = from.request
  deps.onRefused?.(sourceName, reason)
  const base = (from.refusalBase ??= makeRefusalBase(deps, from))
  if (!deps.mayQuarantine(sourceName, base.bytes + ROW_BYTES + (callbackId?.length ?? 0) + bytes.length)) {
    deps.countDropped(sourceName, reason)
    return []
  }
  const body = bytes.toString('base64')
  const queued: QueuedRefusal = { id: randomUUIDv7(), ...base.kept, reason, scope, callbackId, body }
  return [{ kind: 'quarantined', json: JSON.stringify(queued) }]
}

function makeRefusalBase(deps: ReceiveDependencies, from: ReceivedRequest): RefusalBase {
  const kept = { ...whatIsKept(from, deps.credentialDigest ?? redact), remoteAddress: from.remoteAddress }
  return { kept, bytes: Buffer.byteLength(JSON.stringify(kept)) }
}
