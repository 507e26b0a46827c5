import type { HandledEvent, HandlerContext, LogAction } from '@ringback/core/handlers'

/** One line with what names the event, beside the ids that `log` adds; its payload may hold personal data. */
export function runLog(action: LogAction, event: HandledEvent, { log }: HandlerContext): void {
  const { source, accountId, callbackId, type } = event
  log[action.level]({ source, accountId, callbackId, type }, action.message)
}
