import { createHmac } from 'node:crypto'
import { URL_TOKEN } from '@ringback/core/forward'
import type { ForwardAction } from '@ringback/core/forward'
import { HandlerError } from '@ringback/core/handlers'
import type { AttemptReport, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import type { Source } from '@ringback/core/providers/provider'
import { valueAt } from '@ringback/core/value-at'
import { eventFields } from './event-fields.ts'
import { MIN_SECRET_LENGTH, secretsOf, secretValuesOf } from './mask-secrets.ts'
import { createOutgoingHttp } from './outgoing-http.ts'
import type { OutgoingHttp, OutgoingRequest } from './outgoing-http.ts'
import type { Runner, StoredRequest } from './runner.ts'

// Forwards an event to a URL. The request is made here, from the event or from the request that it came with;
// outgoing-http.ts sends it.

/** Everything that a request can be made from. */
export interface Forwarded {
  event: HandledEvent
  /** The payload's JSON text, with every digit. */
  payloadJson: string
  /** Only for `as: 'received'`. */
  request: StoredRequest | undefined
  /** Undefined if the source has left the configuration. */
  source: Pick<Source, 'envelope' | 'details'> | undefined
}

/** The primary's share of the time limit, if there is a fallback. The fallback gets all that the primary leaves. */
const PRIMARY_SHARE = 2 / 3

/** Makes the runner that sends events to a URL. `sources` is needed for envelopes and details of events. */
export function createForward(action: ForwardAction, sources: ReadonlyMap<string, Source>): Runner {
  const { url, fallbackUrl, timeoutMs, allowAddresses, clientCertificate, maxRedirects } = action
  const certificateOrigins = new Set([url, fallbackUrl ?? url].map((text) => new URL(text).origin))
  const http = createOutgoingHttp({ allowAddresses, clientCertificate, certificateOrigins, maxRedirects, timeoutMs })
  return {
    timeoutMs,
    needsRequest: action.as === 'received',
    run: (event, context, request, payloadJson) =>
      deliver(http, action, { event, payloadJson, request, source: sources.get(event.source) }, context),
    close: http.close,
  }
}

async function deliver(
  http: OutgoingHttp,
  action: ForwardAction,
  forwarded: Forwarded,
  context: HandlerContext,
): Promise<AttemptReport> {
  const { url, fallbackUrl, timeoutMs } = action
  const send = async (to: string, signal: AbortSignal, limitMs: number) => {
    const request = createRequest(action, to, forwarded, { ...context, now: new Date() })
    const timeoutMessage = `not done within ${Math.round(limitMs)} ms`
    return http.send(request, { signal, timeoutMessage, secrets: secretsIn(action, request.url) })
  }
  if (fallbackUrl === undefined) return send(url, context.signal, timeoutMs)
  const primaryMs = timeoutMs * PRIMARY_SHARE
  try {
    return await send(url, AbortSignal.any([context.signal, AbortSignal.timeout(primaryMs)]), primaryMs)
  } catch (primary) {
    if (!(primary instanceof HandlerError) || !callsForFallback(primary)) throw primary
    const { response, statusCode } = await send(fallbackUrl, context.signal, timeoutMs).catch((error: Error) => {
      throw bothFailed(primary, error)
    })
    context.log.warn({ primary: primary.message }, 'forward.fallback')
    return { statusCode, response: `[fallbackUrl answered; url: ${primary.message}] ${response}` }
  }
}

/** Whether the primary was not reached, too slow or cut short, or answered 429 or 5xx. Its other answers stand. */
function callsForFallback({ retryable, statusCode }: HandlerError): boolean {
  return retryable && (statusCode === undefined || statusCode < 300 || statusCode === 429 || statusCode >= 500)
}

/** The error when both failed. It has the primary's answer, whose waits and limits the delivery obeys. */
function bothFailed({ message, statusCode, response, retryAfterMs }: HandlerError, fallback: Error): HandlerError {
  const both = `${message}; fallbackUrl: ${fallback.message}`
  return new HandlerError(both, { retryable: true, statusCode, response, retryAfterMs, cause: fallback })
}

/** What to mask: credentials, the configured URLs, and `sentTo`, the URL with its tokens filled in. */
function secretsIn({ url, fallbackUrl, headers }: ForwardAction, sentTo: URL): string[] {
  const configured = [url, fallbackUrl ?? url].map((text) => new URL(text))
  return [
    ...Object.values(headers).flatMap(credentialsIn),
    ...configured.flatMap(secretValuesOf),
    ...[sentTo, ...configured].flatMap(secretsOf),
  ]
}

/** What is secret in a header: its value, or what stands behind the scheme. Of Basic, it is the password too. */
function credentialsIn(value: string): string[] {
  const [, scheme, credentials = value] = /^(Basic|Bearer) (.*)$/.exec(value) ?? []
  const password =
    scheme === 'Basic'
      ? Buffer.from(credentials, 'base64')
          .toString()
          .replace(/^[^:]*:/, '')
      : ''
  return [credentials, password].filter(({ length }) => length >= MIN_SECRET_LENGTH)
}

interface Attempt {
  idempotencyKey: string
  attempt: number
  traceparent?: string
  now: Date
}

/** The request that sends `forwarded` to the URL `to`. Throws a HandlerError if it cannot be made. */
export function createRequest(
  action: Pick<ForwardAction, 'as' | 'headers' | 'signingKeys'>,
  to: string,
  forwarded: Forwarded,
  { idempotencyKey, attempt, traceparent, now }: Attempt,
): OutgoingRequest {
  const { method, url, target, headers, body } = contentOf(action.as, to, forwarded)
  return {
    method,
    url,
    target,
    headers: {
      ...headers,
      'user-agent': 'Ringback',
      ...action.headers,
      'idempotency-key': idempotencyKey,
      'ringback-event-id': forwarded.event.id,
      'ringback-attempt': String(attempt),
      ...(traceparent !== undefined && { traceparent }),
      ...signatureOf(action.signingKeys, { id: idempotencyKey, body, now }),
    },
    body,
    // With `as: 'received'`, authorization may be the provider's own, which is stored where it is a signature.
    credentialHeaders: new Set(['authorization', ...Object.keys(action.headers)]),
  }
}

type Content = Pick<OutgoingRequest, 'method' | 'url' | 'target' | 'headers' | 'body'>

function contentOf(as: ForwardAction['as'], to: string, forwarded: Forwarded): Content {
  switch (as) {
    case 'received':
      return asReceived(to, forwarded)
    case 'json':
      return {
        method: 'POST',
        url: new URL(to),
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(eventJson(forwarded)),
      }
    case 'form':
      return {
        method: 'POST',
        url: new URL(to),
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(formOf(forwarded.payloadJson).toString()),
      }
    case 'get':
      return { method: 'GET', url: fillUrl(to, forwarded), headers: {}, body: undefined }
  }
}

/** Headers that belong to the connection or to proxies on the way to us. */
const NOT_PASSED_ON =
  /^(?:accept|accept-encoding|connection|content-length|expect|forwarded|host|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|via|x-forwarded-.*|x-real-ip)$/
/** What is stored in place of a credential. */
const REDACTED = /^(?:\[redacted\]|digest:[\da-f]{64})$/

/** The request as it came, but without credentials. A callback that came with others is alone in its envelope. */
function asReceived(to: string, { event, request, source }: Forwarded): Content {
  if (request === undefined) throw new Error('the request was not read')
  if (source === undefined) {
    const message = `the source "${event.source}" is not in the configuration, which says how its requests are made up`
    throw new HandlerError(message, { retryable: true })
  }
  const url = new URL(to)
  const query = /\?([^#]*)/.exec(request.url)?.[1]
  const search = query ? `${url.search === '' ? '?' : `${url.search}&`}${query}` : url.search
  const target = url.pathname + search
  url.search = search
  return {
    method: request.method,
    url,
    target,
    headers: headersToPassOn(request.headers),
    // A GET has all its content in the query.
    body: request.method === 'GET' ? undefined : (source.envelope?.([request.raw]) ?? request.raw),
  }
}

function headersToPassOn(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name, value]) => !NOT_PASSED_ON.test(name) && !REDACTED.test(value)),
  )
}

/** The event as JSON. The payload's text is put in as it is, so that its numbers keep their digits. */
function eventJson({ event, payloadJson }: Forwarded): string {
  return `${JSON.stringify(eventFields(event)).slice(0, -1)},"payload":${payloadJson}}`
}

/** Parses JSON to values whose numbers print as they were written. */
function parseExact(json: string): unknown {
  return JSON.parse(json, (_key, value: unknown, { source }) =>
    typeof value === 'number' ? JSON.rawJSON(source) : value,
  )
}

declare global {
  interface JSON {
    /** A number that prints as this text. TypeScript's library does not know it yet. */
    rawJSON(text: string): object
  }
}

function formOf(payloadJson: string): URLSearchParams {
  // A parsed number is an object too, so only the text tells them apart.
  if (!payloadJson.startsWith('{')) {
    throw new HandlerError('the payload is no object, so it has no fields', { retryable: false })
  }
  const payload = parseExact(payloadJson) as Record<string, unknown>
  return new URLSearchParams(Object.entries(payload).map(([name, value]) => [name, asText(value)]))
}

/** Strings as they are, '' for null, times in ISO 8601, JSON for the rest. */
function asText(value: unknown): string {
  if (value === null) return ''
  if (value instanceof Date) return value.toISOString()
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** A path segment that would lead elsewhere than the template says. */
const DOTS = /^(?:\.|%2e){1,2}$/i

function fillUrl(template: string, forwarded: Forwarded): URL {
  const payload = parseExact(forwarded.payloadJson)
  const fields = { ...forwarded.event, payload, details: forwarded.source?.details(forwarded.event.type, payload) }
  const text = template.replaceAll(URL_TOKEN, (token, inRound?: string, inCurly?: string) => {
    const path = (inRound ?? inCurly ?? '').trim().split('.')
    const value = [payload, fields].map((from) => valueAt(from, path)).find((found) => found !== undefined)
    if (value === undefined) throw new HandlerError(`the event has nothing for ${token}`, { retryable: false })
    return encodeURIComponent(asText(value).toWellFormed())
  })
  const path = text.split(/[?#]/, 1)[0]!
  if (path.split('/').some((step) => DOTS.test(step))) {
    throw new HandlerError('a value would change the path of the URL', { retryable: false })
  }
  return new URL(text)
}

/** Headers of Standard Webhooks, signed with every key so that a receiver can rotate its secret. `now` is the attempt's. */
function signatureOf(
  keys: Buffer[],
  { id, body, now }: { id: string; body: Buffer | undefined; now: Date },
): Record<string, string> {
  if (keys.length === 0) return {}
  const timestamp = String(Math.floor(now.getTime() / 1000))
  const signatures = keys.map((key) => {
    const signature = createHmac('sha256', key).update(`${id}.${timestamp}.`)
    return `v1,${signature.update(body ?? '').digest('base64')}`
  })
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') }
}
