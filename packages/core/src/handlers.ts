import type { Logger } from 'pino'
import { z } from 'zod'
import { checked, timeoutMs } from './checked-options.ts'
import type { ResolveAction } from './config.ts'
import type { EmailAction } from './handlers/email.ts'
import type { ForwardAction } from './handlers/forward.ts'
import type { PagerDutyAction, WebhookAction } from './handlers/notify.ts'
import type { QueueAction } from './handlers/queue.ts'
import type { VerifiedBy } from './providers/provider.ts'

/** An event as a handler sees it. */
export interface HandledEvent {
  id: string
  receivedAt: Date
  source: string
  accountId: string
  callbackId: string
  type: string
  callId: string | null
  verifiedBy: VerifiedBy
  occurredAt: Date
  /** What the provider sent for this callback. Integers beyond 2^53 are strings: a JavaScript number would round them. */
  payload: unknown
  /** The part of the payload that belongs to the type, `payload[type]` with Voximplant, whichever way it is nested. */
  details: unknown
}

/** What a `code` handler gets beside the event. */
export interface HandlerContext {
  /** Fires at the handler's time limit. Pass it on to whatever you wait for: by then the attempt has failed. */
  signal: AbortSignal
  /** The same for every attempt of one delivery. Give it to whatever must not act twice. */
  idempotencyKey: string
  /** The first is 1. */
  attempt: number
  /** Names the attempt's span (W3C Trace Context), if tracing is on. A service that gets it as a header joins the trace. */
  traceparent?: string
  log: Logger
}

export interface LogAction {
  kind: 'log'
  level: 'info' | 'warn' | 'error'
  message: string
}

export interface CodeAction {
  kind: 'code'
  run: (event: HandledEvent, context: HandlerContext) => Promise<void> | void
  timeoutMs: number
}

export { email } from './handlers/email.ts'
export type { EmailAction, SmtpServer } from './handlers/email.ts'
export { forward } from './handlers/forward.ts'
export type { ForwardAction } from './handlers/forward.ts'
export { discord, pagerduty, slack, teams } from './handlers/notify.ts'
export type { PagerDutyAction, WebhookAction } from './handlers/notify.ts'
export { queue } from './handlers/queue.ts'
export type { QueueAction } from './handlers/queue.ts'

/** What a handler does: data, or a function of the user's own. The worker has one file for each kind. */
export type HandlerAction =
  | LogAction
  | CodeAction
  | ForwardAction
  | EmailAction
  | WebhookAction
  | PagerDutyAction
  | QueueAction

/**
 * An action as the configuration defines it. `resolve` is called once, when the configuration is loaded. It reports what is
 * wrong through `problem`, and even then returns an action, which nobody uses: loading fails.
 */
export interface ActionDefinition {
  resolve: (resolve: ResolveAction) => HandlerAction
}

const logOptions = z.strictObject({ level: z.enum(['info', 'warn', 'error']).default('info'), message: z.string() })

/** Writes one line to the worker's log, with the event's names as fields. */
export function log(options: { level?: LogAction['level']; message: string }): ActionDefinition {
  return {
    resolve: ({ problem }) => ({ kind: 'log', ...checked(logOptions, options, { message: '' }, problem) }),
  }
}

const codeOptions = z.strictObject({ timeoutMs: timeoutMs.default(10_000) })

/**
 * Runs `run` in the worker. An attempt fails if `run` throws or takes longer than `timeoutMs` (default 10 s), and is retried
 * by the handler's retry policy. Throw a {@link HandlerError} with `retryable: false` for a dead letter at once.
 */
export function code(run: CodeAction['run'], options: { timeoutMs?: number } = {}): ActionDefinition {
  return {
    resolve({ problem }) {
      if (typeof run !== 'function') problem('code takes a function')
      return { kind: 'code', run, ...checked(codeOptions, options, {}, problem) }
    },
  }
}

/** What is kept of an attempt beside its outcome. */
export interface AttemptReport {
  /** HTTP status, or whatever number the other side answers with. */
  statusCode?: number | undefined
  /** The beginning of the answer. */
  response?: string | undefined
}

interface HandlerErrorOptions extends AttemptReport {
  /** Whether another attempt makes sense. */
  retryable: boolean
  /** How long the other side asked us to wait. */
  retryAfterMs?: number | undefined
  /** The destination is gone: nothing is delivered to it until an operator enables it again. */
  isGone?: boolean | undefined
  cause?: unknown
}

/** A failure that says whether another attempt makes sense. Any other error is tried again. */
export class HandlerError extends Error {
  readonly retryable: boolean
  readonly statusCode: number | undefined
  readonly response: string | undefined
  readonly retryAfterMs: number | undefined
  readonly isGone: boolean

  constructor(message: string, options: HandlerErrorOptions) {
    super(message, { cause: options.cause })
    this.name = 'HandlerError'
    this.retryable = options.retryable
    this.statusCode = options.statusCode
    this.response = options.response
    this.retryAfterMs = options.retryAfterMs
    this.isGone = options.isGone ?? false
  }
}

/** Limits that protect a destination. */
export interface Limits {
  /** Most attempts under way at once, over all workers. */
  concurrency?: number | undefined
  /** Most attempts that begin in a second, over all workers. */
  perSecond?: number | undefined
  /** False switches the circuit breaker off. */
  breaker?: BreakerPolicy | false | undefined
}

/** When a circuit breaker opens, so that nothing more is sent to a failing destination. */
export interface BreakerPolicy {
  /** Share of failed attempts in a window at which it opens, above 0 and up to 1. */
  failureShare: number
  /** Least number of attempts in a window at which it opens. */
  minAttempts: number
  windowMs: number
  /** How long it stays open at first. Each trial delivery that fails doubles the time, up to 16 times `openMs`. */
  openMs: number
}

/** The breaker of destinations on other machines, unless the configuration sets another. */
export const defaultBreaker: BreakerPolicy = { failureShare: 0.5, minAttempts: 10, windowMs: 60_000, openMs: 30_000 }
