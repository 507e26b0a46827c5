import type { Config, Handler } from '@ringback/core/config'
import { HandlerError } from '@ringback/core/handlers'
import type { AttemptReport, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import type { Logger } from '@ringback/core/log'
import { parsePayload } from '@ringback/core/parse-payload'
import { nextStep } from '@ringback/core/retry'
import type { NextStep } from '@ringback/core/retry'
import { framesOf, messageOf, messagesOf, textOf } from '@ringback/core/thrown'
import type { Tracing } from '@ringback/core/tracing'
import type { Claimed, EndedAttempt } from './deliveries-table.ts'
import type { Runner, StoredRequest } from './handlers/runner.ts'

export interface AttemptDependencies {
  config: Pick<Config, 'sources'>
  random: () => number
  log: Logger
  /** Called for each attempt when it is over. */
  onAttempt: (attempt: CountedAttempt) => void
  tracing?: Tracing | undefined
}

export interface OwnHandler {
  handler: Handler
  runner: Runner
}

/** An attempt that is over, and what it says of its destination. */
export interface Finished extends EndedAttempt {
  source: string
  type: string
  handler: string
  startedAt: Date
  isGone: boolean
  /** Whether it failed for good and without an answer: the event is such that the handler can do nothing with it. */
  isOfEvent: boolean
}

/** What is counted of it. */
export type CountedAttempt = Pick<Finished, 'source' | 'type' | 'handler' | 'ok' | 'error' | 'durationMs' | 'next'>

/** How long a delivery waits for a disabled destination. Enabling the destination makes it due. */
const GONE_WAIT_MS = 3_600_000

/** At which level an attempt is logged, by what becomes of its delivery. */
const LEVELS = { succeeded: 'info', retry: 'warn', dead: 'error' } as const

/** Makes one attempt of a delivery, and decides what follows. */
export async function runAttempt(
  deps: AttemptDependencies,
  own: OwnHandler,
  delivery: Claimed,
  signal: AbortSignal,
): Promise<Finished> {
  const { handler } = own
  const beganAt = performance.now()
  const span = deps.tracing?.attempt(delivery.traceparent)
  const result = await runHandler(deps, own, delivery, { signal, traceparent: span?.traceparent })
  const durationMs = Math.round(performance.now() - beganAt)
  const { id, eventReceivedAt, source, type, attempt: number, startedAt } = delivery
  const { ok, error, statusCode, response } = result
  // Only a handler with limits has a destination that can be disabled.
  const isGone = !result.ok && result.isGone && handler.limits !== undefined
  const isOfEvent = !result.ok && !isGone && !result.retryable && statusCode === undefined
  const next: NextStep = isGone
    ? { kind: 'retry', delayMs: GONE_WAIT_MS }
    : nextStep(
        handler.retry,
        { attempt: number - delivery.attemptsAtReplay, ageMs: delivery.ageMs },
        result,
        deps.random,
      )
  deps.log[LEVELS[next.kind]](
    {
      eventId: delivery.eventId,
      deliveryId: id,
      handler: handler.name,
      attempt: number,
      maxAttempts: handler.retry.maxAttempts,
      outcome: ok ? 'succeeded' : 'failed',
      ...(statusCode !== undefined && { statusCode }),
      ...(!ok && { error, ...(result.stack !== undefined && { stack: result.stack }), next: next.kind }),
      ...(next.kind === 'retry' && { retryInMs: next.delayMs }),
      durationMs,
    },
    'attempt.finished',
  )
  span?.end(attributesOf(handler.name, delivery, result), { failed: !ok })
  const ended = { id, eventReceivedAt, attempt: number, startedAt, durationMs, ok, error, statusCode, response, next }
  const finished = { ...ended, source, type, handler: handler.name, isGone, isOfEvent }
  deps.onAttempt(finished)
  return finished
}

function attributesOf(handler: string, { id, eventId, source, attempt: number }: Claimed, { ok, statusCode }: Result) {
  return {
    'ringback.handler': handler,
    'ringback.source': source,
    'ringback.event': eventId,
    'ringback.delivery': id,
    'ringback.attempt': number,
    'ringback.outcome': ok ? 'succeeded' : 'failed',
    'http.response.status_code': statusCode,
  }
}

type Result = AttemptReport &
  (
    | { ok: true; error?: undefined }
    | {
        ok: false
        error: string
        /** Where it was thrown, unless a HandlerError says all there is. */
        stack?: string | undefined
        retryable: boolean
        isGone: boolean
        retryAfterMs?: number | undefined
      }
  )

/** As `payload_text` in migrations/0021_payload_text.sql has it. */
const UNPRINTABLE = "the event's payload is more than 4 MiB as text; its bytes are in events.raw"

/** Runs the handler once. Never throws. */
async function runHandler(
  deps: AttemptDependencies,
  { handler, runner }: OwnHandler,
  delivery: Claimed,
  { signal, traceparent }: { signal: AbortSignal; traceparent: string | undefined },
): Promise<Result> {
  const { id, attempt: number, attemptsAtReplay, eventId, source, type } = delivery
  let log: Logger | undefined
  const context: HandlerContext = {
    signal,
    // A replay is meant to act again, so it has a key of its own.
    idempotencyKey: attemptsAtReplay === 0 ? id : `${id}-replay-${attemptsAtReplay}`,
    attempt: number,
    ...(traceparent !== undefined && { traceparent }),
    // Made only for handlers that log: it costs about as much as a line.
    get log() {
      return (log ??= deps.log.child({ eventId, deliveryId: id, handler: handler.name, attempt: number }))
    },
  }
  try {
    if (delivery.payload === null) throw new HandlerError(UNPRINTABLE, { retryable: false })
    const payload = parsePayload(delivery.payload)
    const event: HandledEvent = {
      id: eventId,
      receivedAt: delivery.receivedAt,
      source,
      accountId: delivery.accountId,
      callbackId: delivery.callbackId,
      type,
      callId: delivery.callId,
      verifiedBy: delivery.verifiedBy,
      occurredAt: delivery.occurredAt,
      payload,
      details: deps.config.sources.get(source)?.details(type, payload),
    }
    const report = await runner.run(event, context, storedRequest(delivery), delivery.payload)
    return { ok: true, ...report }
  } catch (error) {
    return failureOf(error)
  }
}

/** What a handler threw as the result of its attempt. Never throws, whatever a user's own function has thrown. */
function failureOf(thrown: unknown): Result {
  const message = messageOf(thrown)
  try {
    if (!(thrown instanceof HandlerError)) {
      return { ok: false, error: messagesOf(thrown), stack: framesOf(thrown), retryable: true, isGone: false }
    }
    const { retryable, isGone } = thrown
    // It may have put anything into them.
    const statusCode = isStatusCode(thrown.statusCode) ? thrown.statusCode : undefined
    const retryAfterMs = typeof thrown.retryAfterMs === 'number' ? thrown.retryAfterMs : undefined
    const response = thrown.response === undefined ? undefined : textOf(thrown.response)
    return { ok: false, error: message, retryable, isGone, statusCode, response, retryAfterMs }
  } catch {
    return { ok: false, error: message, retryable: true, isGone: false }
  }
}

function isStatusCode(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) < 2 ** 31
}

function storedRequest({ method, url, headers, raw }: Claimed): StoredRequest | undefined {
  if (method === undefined || url === undefined || headers === undefined || raw === undefined) return undefined
  return { method, url, headers: JSON.parse(headers) as Record<string, string>, raw }
}
