import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '@ringback/core/log'
import { PostponedError } from '@ringback/core/queue'
import { sqlState, TOO_LONG, verdictOn } from './postgres-errors.ts'
import type { Suspects } from './suspects.ts'

export interface Tries {
  suspects: Suspects
  /** Called when Postgres has answered with an error: whatever it was, the worker is not stuck. */
  onAnswer?: () => void
  /** How long a group that cannot be stored goes back to the queue. Default: 10 s, or 30 s if it cannot be read. */
  postponedMs?: number | undefined
  /** Called with the reason for each group that goes back to the queue for a while. */
  onPostponed?: (reason: 'unreadable' | 'not_stored') => void
  log: Logger
  /** Fires when the process is to end: a group that waits for Postgres goes back to the queue. */
  signal: AbortSignal
}

/** The longest pause between two tries while Postgres is down. */
const LONGEST_PAUSE_MS = 2000
/** How often a group that Postgres does not store, although it is up, is tried before it goes back to the queue. */
const TRIES_IN_HAND = 3
const POSTPONED_MS = 10_000

/**
 * Tries until `store` succeeds: what is in the queue was acknowledged, and nobody is left who could be told of a failure.
 * While Postgres is down, it waits with the group in hand. A group that fails while Postgres is up goes back to the queue
 * for a while (by throwing {@link PostponedError}), so that it takes no other group's place.
 */
export async function untilStored<Result>(
  { suspects, onAnswer, onPostponed, postponedMs = POSTPONED_MS, log, signal }: Tries,
  groupId: string,
  store: () => Promise<Result>,
): Promise<Result> {
  let tries = 0
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      const result = await store()
      suspects.onStored(groupId)
      return result
    } catch (error) {
      const code = sqlState(error)
      const failure = { groupId, error: (error as Error).message, sqlState: code }
      if (code !== undefined) onAnswer?.()
      if (verdictOn(error) !== 'down') tries += 1
      if (tries >= TRIES_IN_HAND || code === TOO_LONG) {
        log.error({ ...failure, times: suspects.onStuck(groupId), retryInMs: postponedMs }, 'group.postponed')
        onPostponed?.('not_stored')
        throw new PostponedError('it cannot be stored at this moment', postponedMs)
      }
      log.error({ ...failure, retryInMs: pauseMs }, 'group.not_stored')
      await sleep(pauseMs, undefined, { signal })
    }
  }
}
