import type { Logger } from 'pino'
import { z } from 'zod'
import { checked, timeoutMs } from './checked-options.ts'
import type { ResolveAction } from './config.ts'
import type { ForwardAction } from './forward.ts'
import type { EmailAction, PagerDutyAction, QueueAction, WebhookAction } from './notify.ts'
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
  /** What the provider sent for this callback. Integers beyond 2^53 are strings, for a JavaScript number would round them. */
  payload: unknown
  /** The part of the payload that belongs to the type, `payload[type]` with Voximplant, whichever way it is nested. */
  details: unknown
}

/** What a `code` handler gets beside the event. */
export interface HandlerContext {
  /** Fires at the handler's time limit. Pass it on: what goes on after it counts for nothing. */
  signal: AbortSignal
  /** The same for every attempt of one delivery. Give it to whatever must not act twice. */
  idempotencyKey: string
  /** The first is 1. */
  attempt: number
  /** Of the attempt's span (W3C Trace Context), where traces are on: the header by which another service joins the trace. */
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

export { forward } from './forward.ts'
export type { ForwardAction } from './forward.ts'
export { discord, email, pagerduty, queue, slack, teams } from './notify.ts'
export type { EmailAction, PagerDutyAction, QueueAction, SmtpServer, WebhookAction } from './notify.ts'

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
 * An action as the configuration has it. `resolve` is called once, when that is loaded. It reports what is wrong by
 * `problem` and returns an action all the same: the configuration is then not loaded.
 */
export interface ActionDefinition<Action extends HandlerAction = HandlerAction> {
  kind: Action['kind']
  resolve: (resolve: ResolveAction) => Action
}

const logOptions = z.strictObject({ level: z.enum(['info', 'warn', 'error']).default('info'), message: z.string() })

/** Writes one line to the worker's log, with the event's names as fields. */
export function log(options: { level?: LogAction['level']; message: string }): ActionDefinition {
  return {
    kind: 'log',
    resolve: ({ problem }) => ({ kind: 'log', ...checked(logOptions, options, { message: '' }, problem) }),
  }
}

const codeOptions = z.strictObject({ timeoutMs: timeoutMs.default(10_000) })

/**
 * Runs `run` in the worker. It failed when it throws or is not done within `timeoutMs` (default 10 s), and is tried
 * again by the handler's retry policy; throw a {@link HandlerError} with `retryable: false` to end it at once.
 */
export function code(run: CodeAction['run'], options: { timeoutMs?: number } = {}): ActionDefinition {
  return {
    kind: 'code',
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
  /** The beginning of what it answered. */
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

/** What a destination is spared; shared by all workers. */
export interface Limits {
  /** Attempts under way at once, over all workers. */
  concurrency?: number | undefined
  /** Attempts that begin in a second, over all workers. */
  perSecond?: number | undefined
  /** False switches the circuit breaker off. */
  breaker?: BreakerPolicy | false | undefined
}

/** When nothing more is sent to a destination that fails. */
export interface BreakerPolicy {
  /** It opens when so large a share of the attempts in a window has failed, */
  failureShare: number
  /** and there were at least so many. */
  minAttempts: number
  windowMs: number
  /** How long it stays open at first; doubled each time that the delivery which then tries fails, up to 16 times as long. */
  openMs: number
}

/** What holds for destinations on other machines where the configuration says nothing else. */
export const defaultBreaker: BreakerPolicy = { failureShare: 0.5, minAttempts: 10, windowMs: 60_000, openMs: 30_000 }
