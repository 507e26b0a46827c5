import type { Logger } from 'pino'
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

/** What a handler does: data, or a function of the user's own. The worker has one file for each kind. */
export type HandlerAction = LogAction | CodeAction

/** Writes one line to the worker's log, with the event's names as fields. */
export function log({ level = 'info', message }: { level?: LogAction['level']; message: string }): LogAction {
  return { kind: 'log', level, message }
}

/**
 * Runs `run` in the worker. It failed when it throws or is not done within `timeoutMs` (default 10 s), and is tried
 * again by the handler's retry policy; throw a {@link HandlerError} with `retryable: false` to end it at once.
 */
export function code(run: CodeAction['run'], { timeoutMs = 10_000 }: { timeoutMs?: number } = {}): CodeAction {
  return { kind: 'code', run, timeoutMs }
}

/** A failure that says whether another attempt makes sense. Any other error is tried again. */
export class HandlerError extends Error {
  readonly retryable: boolean

  constructor(message: string, { retryable, cause }: { retryable: boolean; cause?: unknown }) {
    super(message, { cause })
    this.name = 'HandlerError'
    this.retryable = retryable
  }
}
