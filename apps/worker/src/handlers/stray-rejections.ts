import { AsyncLocalStorage } from 'node:async_hooks'
import type { HandlerContext } from '@ringback/core/handlers'
import { framesOf, messagesOf } from '@ringback/core/thrown'

// Promises that a user's function makes and does not wait for. If one of them rejects, Node ends the process, and with it the
// attempts of all other handlers. The next attempt would do so again.

type Attempt = Pick<HandlerContext, 'log'>

/** The attempt that made whatever is running now. */
const attempts = new AsyncLocalStorage<Attempt>()

/** Runs a user's function, so that its promises are known to be of this attempt. */
export function runInAttempt<Result>(attempt: Attempt, run: () => Result): Result {
  return attempts.run(attempt, run)
}

/** From now on, the process logs rejections of which an attempt has lost sight. Any others still end it. */
export function logStrayRejections(): void {
  process.on('unhandledRejection', (reason) => {
    const attempt = attempts.getStore()
    if (attempt === undefined) throw reason
    attempt.log.error({ error: messagesOf(reason), stack: framesOf(reason) }, 'handler.stray_rejection')
  })
}
