import { hash, randomUUIDv7, timingSafeEqual } from 'node:crypto'
import type { GroupPart, QueuedCallback, QueuedRefusal } from '@ringback/core/callback'
import type { GenuineCallback, Source } from '@ringback/core/providers/provider'
import type { Allowance } from './allowance.ts'
import type { Enqueuer } from './enqueue.ts'
import { headersToKeep } from './headers.ts'
import type { Body } from './read-body.ts'

/** One HTTP request to `/callbacks/:source[/:token]`, its body not read yet. */
export interface IncomingCallbackRequest {
  sourceName: string
  token: string | undefined
  method: string
  /** Path and query. */
  url: string
  headers: Record<string, string | string[] | undefined>
  remoteAddress: string | undefined
  readBody: () => Promise<Body>
}

/** What became of a request. `duplicate` is not among them: only the worker knows, and the answer is the same. */
export type Outcome =
  | { kind: 'accepted'; callbacks: number; refused: number }
  | { kind: 'unknown_source' }
  | { kind: 'method_not_allowed'; allowed: readonly string[] }
  | { kind: 'too_large' }
  | { kind: 'forged'; refused: number }
  | { kind: 'unreadable'; refused: number }
  | { kind: 'not_durable'; cause: unknown }
  | { kind: 'client_gone' }
  | { kind: 'overloaded' }

export interface ReceiveDependencies {
  sources: ReadonlyMap<string, Source>
  enqueuer: Pick<Enqueuer, 'enqueue' | 'countDropped'>
  mayQuarantine: Allowance
  now: () => Date
}

/** Find the source, limit, read, verify, split, make durable: everything that happens before the answer. Never throws. */
export async function receiveRequest(deps: ReceiveDependencies, request: IncomingCallbackRequest): Promise<Outcome> {
  const source = findSource(deps.sources, request)
  if (source === undefined) return { kind: 'unknown_source' }
  if (!source.methods.some((method) => method === request.method))
    return { kind: 'method_not_allowed', allowed: source.methods }

  const body = await request.readBody()
  if (body.kind === 'client_gone' || body.kind === 'overloaded') return body
  if (body.kind === 'too_large') {
    deps.enqueuer.countDropped(request.sourceName, 'too_large')
    return body
  }

  const reading = source.read({
    method: request.method,
    body: body.bytes,
    header: (name) => [request.headers[name]].flat()[0],
    receivedAt: deps.now(),
  })
  const envelope = envelopeOf(request)
  if (reading.kind === 'refused') {
    const parts = quarantine(deps, request, envelope, { reason: reading.reason, bytes: reading.body })
    return makeDurable(deps, parts, { kind: 'unreadable', refused: 1 })
  }

  const parts: GroupPart[] = []
  const count = { genuine: 0, forged: 0, unreadable: 0 }
  for (const callback of reading.callbacks) {
    count[callback.kind] += 1
    if (callback.kind === 'genuine') parts.push(callbackPart(request, envelope, callback))
    else parts.push(...quarantine(deps, request, envelope, { ...callback, bytes: callback.raw }))
  }
  const refused = count.forged + count.unreadable
  if (count.genuine > 0 || refused === 0)
    return makeDurable(deps, parts, { kind: 'accepted', callbacks: count.genuine, refused })
  return makeDurable(deps, parts, { kind: count.forged > 0 ? 'forged' : 'unreadable', refused })
}

/** A refusal waits for its quarantine as a 200 waits for its callback: a wrong secret of ours must lose nothing. */
async function makeDurable(deps: ReceiveDependencies, parts: GroupPart[], outcome: Outcome): Promise<Outcome> {
  if (parts.length === 0) return outcome
  try {
    await deps.enqueuer.enqueue(parts)
    return outcome
  } catch (cause) {
    return { kind: 'not_durable', cause }
  }
}

/** The source by its name, given that the URL's token is one of its tokens, or that neither has any. */
export function findSource(
  sources: ReadonlyMap<string, Source>,
  { sourceName, token }: { sourceName: string; token: string | undefined },
): Source | undefined {
  const source = sources.get(sourceName)
  if (source === undefined) return undefined
  if (token === undefined) return source.urlTokens.length === 0 ? source : undefined
  return source.urlTokens.some((candidate) => equalInConstantTime(candidate, token)) ? source : undefined
}

function equalInConstantTime(a: string, b: string): boolean {
  return timingSafeEqual(hash('sha256', a, 'buffer'), hash('sha256', b, 'buffer'))
}

/** What is kept of a request beside its body. */
interface Envelope {
  url: string
  headers: Record<string, string>
}

/** Where the path ends in a secret token, the path is written anew: the request may spell it in more ways than one. */
function envelopeOf({ sourceName, url, token, headers }: IncomingCallbackRequest): Envelope {
  const query = url.indexOf('?')
  const safeUrl = token === undefined ? url : `/callbacks/${sourceName}/***${query === -1 ? '' : url.slice(query)}`
  return { url: safeUrl, headers: headersToKeep(headers) }
}

function callbackPart(
  { sourceName, method }: IncomingCallbackRequest,
  envelope: Envelope,
  callback: GenuineCallback,
): GroupPart {
  const queued: QueuedCallback = {
    id: randomUUIDv7(),
    source: sourceName,
    accountId: callback.accountId,
    callbackId: callback.callbackId,
    type: storableText(callback.type),
    callId: callback.callId,
    verifiedBy: callback.verifiedBy,
    occurredAt: callback.occurredAt.toISOString(),
    method,
    url: envelope.url,
    headers: envelope.headers,
    raw: callback.raw.toString('base64'),
  }
  return { kind: 'callbacks', json: JSON.stringify(queued) }
}

/** The part that keeps a refusal, or none where the source's allowance is used up: it is then counted. */
function quarantine(
  deps: ReceiveDependencies,
  { sourceName, method, remoteAddress }: IncomingCallbackRequest,
  envelope: Envelope,
  { reason, bytes, callbackId }: { reason: string; bytes: Buffer; callbackId?: string },
): GroupPart[] {
  if (!deps.mayQuarantine(sourceName, bytes.length)) {
    deps.enqueuer.countDropped(sourceName, reason)
    return []
  }
  const queued: QueuedRefusal = {
    id: randomUUIDv7(),
    source: sourceName,
    reason,
    method,
    url: envelope.url,
    remoteAddress,
    headers: envelope.headers,
    body: bytes.toString('base64'),
    callbackId,
  }
  return [{ kind: 'quarantined', json: JSON.stringify(queued) }]
}

const MAX_TYPE_LENGTH = 255

/** Postgres takes no U+0000 and no lone surrogate in a text; an index entry has its limits too. */
function storableText(text: string): string {
  return text.slice(0, MAX_TYPE_LENGTH).replaceAll('\u0000', '\ufffd').toWellFormed()
}
