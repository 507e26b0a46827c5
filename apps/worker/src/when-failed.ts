import type { WhenFailed } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'

const INTERVAL_MS = 60_000
const MAX_MESSAGE_LENGTH = 500

/**
 * Logs that a handler's `when` threw: the first time at once, and then at most once a minute for each handler, with how
 * many events it threw for since. It is limited because `when` is called for every event.
 */
export function logWhenFailed(log: Pick<Logger, 'error'>, now: () => number = Date.now): WhenFailed {
  const seen = new Map<string, { loggedAt: number; count: number }>()
  return ({ handler, eventId, error }) => {
    const { loggedAt, count } = seen.get(handler) ?? { loggedAt: -Infinity, count: 0 }
    const isDue = now() - loggedAt >= INTERVAL_MS
    seen.set(handler, isDue ? { loggedAt: now(), count: 0 } : { loggedAt, count: count + 1 })
    if (!isDue) return
    const message = error.slice(0, MAX_MESSAGE_LENGTH)
    log.error({ handler, eventId, error: message, count: count + 1 }, 'when.failed')
  }
}
