import type { Logger } from '../log.ts'
import { createThrottle } from '../throttle.ts'

/** How long a message is not logged again: while a server refuses, each shard and connection reports it again and again. */
const REPEAT_AFTER_MS = 5000

/** Makes an error listener for a queue's connections. It logs `queue.failed`, with how many repeats were left out. */
export function createErrorLog(log: Logger, queue: string): (error: Error) => void {
  const throttle = createThrottle(REPEAT_AFTER_MS)
  return ({ message }) => {
    const repeats = throttle(message)
    if (repeats !== undefined) log.warn({ queue, error: message, ...(repeats > 0 && { repeats }) }, 'queue.failed')
  }
}
