import type { Handler } from '@ringback/core/config'
import type { AttemptReport, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import type { Source } from '@ringback/core/providers/provider'
import { runCode } from './code.ts'
import { createEmail } from './email.ts'
import { createForward } from './forward.ts'
import { runLog } from './log.ts'
import { createNotify } from './notify.ts'
import { createQueue } from './queue.ts'

// One runner for each handler of the configuration: what an attempt does, whatever the kind.

/** The request that an event came with, as it was stored. */
export interface StoredRequest {
  method: string
  /** Path and query, without secrets. */
  url: string
  /** Without credentials. */
  headers: Record<string, string>
  /** The callback's own bytes. */
  raw: Buffer
}

export interface Runner {
  /** How long an attempt may take. After that it has failed. */
  timeoutMs: number
  /** Whether `run` gets the stored request; reading it costs. Default: no. */
  needsRequest?: boolean
  /**
   * Limit of attempts under way in one worker, so that none waits in line while its time runs. Default: the worker's own.
   */
  maxAttempts?: number
  /** Makes one attempt. Throws if it fails; a HandlerError says how. `payloadJson` is the payload as stored. */
  run: (
    event: HandledEvent,
    context: HandlerContext,
    request: StoredRequest | undefined,
    payloadJson: string,
  ) => Promise<AttemptReport | void> | AttemptReport | void
  /** Ends connections. */
  close: () => Promise<void>
}

/** A `log` line takes no time worth limiting, but a lease needs an end. */
const LOG_TIMEOUT_MS = 10_000

export interface RunnerDependencies {
  sources: ReadonlyMap<string, Source>
  /** Whether the alert of this id has been resolved. */
  isAlertOver: (alertId: string) => Promise<boolean>
}

/** The runner of a handler; it lives as long as the worker. */
export function createRunner({ run: action }: Handler, { sources, isAlertOver }: RunnerDependencies): Runner {
  switch (action.kind) {
    case 'log':
      return {
        timeoutMs: LOG_TIMEOUT_MS,
        run: (event, context) => runLog(action, event, context),
        close: async () => {},
      }
    case 'code':
      return {
        timeoutMs: action.timeoutMs,
        run: (event, context) => runCode(action, event, context),
        close: async () => {},
      }
    case 'forward':
      return createForward(action, sources)
    case 'email':
      return createEmail(action)
    case 'slack':
    case 'teams':
    case 'discord':
    case 'pagerduty':
      return createNotify(action, isAlertOver)
    case 'queue':
      return createQueue(action)
  }
}
