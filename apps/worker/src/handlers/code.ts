import { HandlerError } from '@ringback/core/handlers'
import type { CodeAction, HandledEvent, HandlerContext } from '@ringback/core/handlers'

/** The user's own function. Past its time limit the attempt has failed, whether the function heeds the signal or not. */
export async function runCode(action: CodeAction, event: HandledEvent, context: HandlerContext): Promise<void> {
  const { promise: timedOut, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(new HandlerError(`not done within ${action.timeoutMs} ms`, { retryable: true }))
  context.signal.addEventListener('abort', onAbort, { once: true })
  try {
    // In a then, so that a function that throws at once fails in the same way as one that rejects.
    await Promise.race([Promise.resolve().then(() => action.run(event, context)), timedOut])
  } finally {
    context.signal.removeEventListener('abort', onAbort)
  }
}
