import type { CodeAction, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import { runInAttempt } from './stray-rejections.ts'
import { untilAborted } from './until-aborted.ts'

/** Runs the user's own function. After its time limit the attempt has failed, even if the function ignores the signal. */
export function runCode(action: CodeAction, event: HandledEvent, context: HandlerContext): Promise<void> {
  // Async, so that a function that throws at once fails in the same way as one that rejects.
  const work = runInAttempt(context, async () => action.run(event, context))
  return untilAborted(work, context.signal, action.timeoutMs)
}
