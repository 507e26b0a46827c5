import { Hono } from 'hono'
import type { Context } from 'hono'
import type { Logger } from '@ringback/core/log'
import { queryOf } from '@ringback/core/providers/message'
import type { Tracing } from '@ringback/core/tracing'
import type { AnsweredRequest } from './count-requests.ts'
import type { Body, IngestEnv } from './read-body.ts'
import { findSource, receiveRequest } from './receive-request.ts'
import type { IncomingCallbackRequest, Outcome, ReceiveDependencies } from './receive-request.ts'
import { pathAndQuery } from './request-target.ts'

export interface AppDependencies extends ReceiveDependencies {
  readBody: (c: Context<IngestEnv>) => Promise<Body>
  /** The source that `/` belongs to, if any; it has no tokens. */
  rootSource: string | undefined
  /** Whether callbacks can be made durable at the moment. */
  ready: () => Promise<boolean>
  /** Called for each request when its answer is known. */
  onAnswered: (request: AnsweredRequest) => void
  tracing?: Tracing | undefined
  log: Logger
}

const UNKNOWN_SOURCE = { error: 'unknown source' }

/** The routes: HTTP in, HTTP out. */
export function createApp(deps: AppDependencies): Hono<IngestEnv> {
  const app = new Hono<IngestEnv>({ strict: false })

  app.get('/livez', (c) => c.json({ status: 'live' }))
  for (const path of ['/readyz', '/healthz']) {
    app.get(path, async (c) =>
      (await deps.ready()) ? c.json({ status: 'ready' }) : c.json({ status: 'not ready' }, 503),
    )
  }

  const { rootSource } = deps
  if (rootSource === undefined) {
    // A control panel sends this to check the URL that was entered.
    app.get('/', (c) => c.json({ status: 'ready' }))
  } else {
    app.all('/', (c) => receiveOrProbe(c, rootSource, undefined))
  }
  app.all('/callbacks/:source', (c) => receiveOrProbe(c, c.req.param('source'), undefined))
  app.all('/callbacks/:source/:token', (c) => receiveOrProbe(c, c.req.param('source'), c.req.param('token')))
  // Counted and logged like an unknown source: it may be a callback URL that was entered wrong.
  app.notFound(async (c) => {
    await receiveOrProbe(c, '', undefined)
    return c.json({ error: 'not found' }, 404)
  })
  app.onError((error, c) => {
    deps.log.error({ err: error }, 'request.crashed')
    return c.json({ error: 'internal error' }, 500)
  })
  return app

  function receiveOrProbe(
    c: Context<IngestEnv>,
    sourceName: string,
    token: string | undefined,
  ): Response | Promise<Response> {
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD') return receive(c, sourceName, token)
    if (queryOf(c.req.url) !== '') return receive(c, sourceName, token)
    return findSource(deps.sources, { sourceName, token }) ? c.json({ status: 'ready' }) : c.json(UNKNOWN_SOURCE, 404)
  }

  async function receive(c: Context<IngestEnv>, sourceName: string, token: string | undefined): Promise<Response> {
    const startedAt = performance.now()
    const span = deps.tracing?.receive(c.req.header('traceparent'))
    const outcome = await receiveRequest(deps, incomingRequest(c, sourceName, token, span?.traceparent))
    const durationMs = performance.now() - startedAt
    logOutcome(deps.log, sourceName, outcome, durationMs)
    deps.onAnswered({ source: sourceName, outcome: outcome.kind, durationMs })
    const response = toResponse(c, outcome)
    span?.end(attributesOf(sourceName, outcome, response.status), { failed: response.status >= 500 })
    return response
  }

  function incomingRequest(
    c: Context<IngestEnv>,
    sourceName: string,
    token: string | undefined,
    traceparent: string | undefined,
  ): IncomingCallbackRequest {
    const incoming = c.env?.incoming
    return {
      sourceName,
      token,
      method: c.req.method,
      url: pathAndQuery(incoming?.url ?? c.req.url),
      headers: incoming?.headers ?? Object.fromEntries(c.req.raw.headers),
      remoteAddress: incoming?.socket.remoteAddress,
      traceparent,
      readBody: () => deps.readBody(c),
    }
  }
}

function toResponse(c: Context<IngestEnv>, outcome: Outcome): Response {
  switch (outcome.kind) {
    case 'accepted':
      // Plain headers are sent as they are. Those of `c.body` would be made into a Headers, and that into an object again.
      return new Response(outcome.answer.body, { headers: { 'Content-Type': outcome.answer.contentType } })
    case 'unknown_source':
      return c.json(UNKNOWN_SOURCE, 404)
    case 'method_not_allowed':
      return c.json({ error: 'method not allowed' }, 405, { Allow: outcome.allowed.join(', ') })
    case 'too_large':
      // The connection could only be kept by reading the rest of the body, which nobody wants.
      return c.json({ error: 'body too large' }, 413, { Connection: 'close' })
    case 'forged':
      if (outcome.challenge !== undefined) c.header('WWW-Authenticate', outcome.challenge)
      return c.json({ error: 'not accepted' }, 401)
    case 'unreadable':
    case 'client_gone':
      return c.json({ error: "not readable as this provider's request" }, 400)
    case 'overloaded':
      return c.json({ error: 'try again later' }, 503, { 'Retry-After': '5', Connection: 'close' })
    case 'not_durable':
      return c.json({ error: 'try again later' }, 503, { 'Retry-After': '5' })
  }
}

/** The attributes of a request's span. They hold nothing that a sender can make up: an unknown source is not named. */
function attributesOf(source: string, outcome: Outcome, statusCode: number) {
  return {
    'ringback.source': outcome.kind === 'unknown_source' ? undefined : source,
    'ringback.outcome': outcome.kind,
    'http.response.status_code': statusCode,
  }
}

/** Logs one line for each request. Accepted ones are `debug`: at thousands a second the worker's lines are enough. */
function logOutcome(log: Logger, source: string, outcome: Outcome, durationMs: number): void {
  const level = outcome.kind === 'accepted' ? 'debug' : outcome.kind === 'not_durable' ? 'error' : 'info'
  if (!log.isLevelEnabled(level)) return
  const fields = { ...counts(outcome), ...('cause' in outcome && { error: String(outcome.cause) }) }
  log[level](
    { source, outcome: outcome.kind, ...fields, durationMs: Math.round(durationMs * 100) / 100 },
    'request.received',
  )
}

function counts(outcome: Outcome): { callbacks?: number; refused?: number; reasons?: readonly string[] } {
  if (outcome.kind === 'accepted') return { callbacks: outcome.callbacks, refused: outcome.refused }
  return 'refused' in outcome ? { refused: outcome.refused, reasons: outcome.reasons } : {}
}
