import type { WhenFailed } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'
import { createThrottle } from '@ringback/core/throttle'

const INTERVAL_MS = 60_000
const MAX_MESSAGE_LENGTH = 500

/**
 * Logs that a handler's `when` threw: the first time at once, and then at most once a minute for each handler, with how
 * many events it threw for since. It is limited because `when` is called for every event.
 */
export function logWhenFailed(log: Pick<Logger, 'error'>, now?: () => number): WhenFailed {
  const throttle = createThrottle(INTERVAL_MS, now)
  return ({ handler, eventId, error }) => {
    const heldBack = throttle(handler)
    if (heldBack === undefined) return
    const message = error.slice(0, MAX_MESSAGE_LENGTH)
    log.error({ handler, eventId, error: message, count: heldBack + 1 }, 'when.failed')
  }
}
