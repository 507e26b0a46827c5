import type { CodeAction, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import { untilAborted } from './until-aborted.ts'

/** The user's own function. Past its time limit the attempt has failed, whether the function heeds the signal or not. */
export function runCode(action: CodeAction, event: HandledEvent, context: HandlerContext): Promise<void> {
  // In a then, so that a function that throws at once fails in the same way as one that rejects.
  const work = Promise.resolve().then(() => action.run(event, context))
  return untilAborted(work, context.signal, action.timeoutMs)
}
