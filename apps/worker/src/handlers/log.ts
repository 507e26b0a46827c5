import type { HandledEvent, HandlerContext, LogAction } from '@ringback/core/handlers'

/** Logs one line that names the event, besides the ids that `log` adds. The payload is left out: it may be personal data. */
export function runLog(action: LogAction, event: HandledEvent, { log }: HandlerContext): void {
  const { source, accountId, callbackId, type } = event
  log[action.level]({ source, accountId, callbackId, type }, action.message)
}
