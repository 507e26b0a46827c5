import type { Logger } from '../log.ts'

/** The same message is logged once in this time: while a server refuses, each shard and connection says so again and again. */
const REPEAT_AFTER_MS = 5000
const MAX_MESSAGES = 100

/** Logs `queue.failed` for what a queue's connections say, with how often it was left out since the last time. */
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
