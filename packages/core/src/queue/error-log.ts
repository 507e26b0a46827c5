import type { Logger } from '../log.ts'

/** How long a message is not logged again: while a server refuses, each shard and connection reports it again and again. */
const REPEAT_AFTER_MS = 5000
const MAX_MESSAGES = 100

/** Makes an error listener for a queue's connections. It logs `queue.failed`, with how many repeats were left out. */
export function createErrorLog(log: Logger, queue: string): (error: Error) => void {
  const seen = new Map<string, { loggedAt: number; repeats: number }>()
  return ({ message }) => {
    const entry = seen.get(message)
    const now = performance.now()
    if (entry !== undefined && now - entry.loggedAt < REPEAT_AFTER_MS) {
      entry.repeats += 1
      return
    }
    if (seen.size >= MAX_MESSAGES) seen.clear()
    seen.set(message, { loggedAt: now, repeats: 0 })
    log.warn({ queue, error: message, ...(entry?.repeats && { repeats: entry.repeats }) }, 'queue.failed')
  }
}
