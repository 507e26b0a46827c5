import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '@ringback/core/log'
import type { QueueState } from '@ringback/core/queue'
import type { Hands } from './hands.ts'

// A worker that does nothing while there is work, and while nothing hinders it, has come to a state that nobody thought
// of. Its process ends, and its supervisor starts another.

/** What one look at a queue shows. Times are in ms, of performance.now(). */
export interface Look {
  waiting: number
  /** When the oldest job that waits was enqueued. */
  oldestAt: number
  /** Jobs that this worker has begun, ended, or got an answer for. */
  moves: number
  /** Whether it could begin another job, or all in hand have taken longer than they may, and the queue is not paused. */
  isFree: boolean
}

/** One queue as the watchdog remembers it. */
export interface Watched {
  look: Look
  /** Since when nothing has moved though something could. */
  since: number
}

/** How much `oldestAt` of one job may differ between two looks: it is reckoned from an age, a moment after that was read. */
const SAME_TIME_MS = 250

/**
 * Remembers a look. Time counts only while work waits, none of it is taken by anybody, this worker could take it, and
 * `serversAnswer`. Any other reason for standing still, however short, starts the time again.
 */
export function watch(before: Watched | undefined, look: Look, now: number, serversAnswer: boolean): Watched {
  const stands =
    before !== undefined &&
    serversAnswer &&
    look.waiting > 0 &&
    look.waiting >= before.look.waiting &&
    Math.abs(look.oldestAt - before.look.oldestAt) < SAME_TIME_MS &&
    look.moves === before.look.moves &&
    look.isFree
  return { look, since: stands ? before.since : now }
}

export interface WatchdogOptions {
  queues: readonly { name: string; state: () => Promise<QueueState>; hands: Hands }[]
  /** Resolves if Postgres takes a write over a new connection, and the queue's server one of its own; rejects in time. */
  probe: () => Promise<unknown>
  /** How long nothing may move. */
  stuckAfterMs: number
  /** Ends the process with a code that is not 0. */
  exit: () => void
  log: Logger
  signal: AbortSignal
}

/** Looks at the queues a dozen times within `stuckAfterMs`, until `signal` fires or it has called `exit`. */
export async function runWatchdog({ queues, probe, stuckAfterMs, exit, log, signal }: WatchdogOptions): Promise<void> {
  let watched = new Map<string, Watched>()
  while (!signal.aborted) {
    await sleep(stuckAfterMs / 12, undefined, { signal }).catch(() => undefined) // ends the pause
    const seen = await lookAll(watched).catch(() => undefined)
    // A server that does not answer is reason enough to stand still.
    watched = seen?.watched ?? new Map<string, Watched>()
    for (const [queue, { look, since }] of watched) {
      const stuckForMs = Math.round(seen!.at - since)
      if (signal.aborted || stuckForMs < stuckAfterMs) continue
      log.fatal(
        { queue, waiting: look.waiting, oldestAgeMs: Math.round(seen!.at - look.oldestAt), stuckForMs },
        'worker.stuck',
      )
      return exit()
    }
  }

  async function lookAll(before: Map<string, Watched>): Promise<{ watched: Map<string, Watched>; at: number }> {
    const looks = await Promise.all(
      queues.map(async ({ name, state, hands }) => {
        const { waiting, oldestAgeMs, isPaused } = await state()
        const now = performance.now()
        const isFree = !isPaused && hands.isFree(now)
        return { name, look: { waiting, oldestAt: now - oldestAgeMs, moves: hands.moves(), isFree } }
      }),
    )
    // Reads the clock again: a probe that fails may have taken seconds, and they do not count.
    const after = (serversAnswer: boolean) => {
      const at = performance.now()
      const watchedNow = looks.map(
        ({ name, look }) => [name, watch(before.get(name), look, at, serversAnswer)] as const,
      )
      return { watched: new Map(watchedNow), at }
    }
    const standing = after(true)
    // The servers are asked only where something seems to stand.
    if ([...standing.watched.values()].every(({ since }) => since === standing.at)) return standing
    const serversAnswer = await probe().then(
      () => true,
      () => false,
    )
    return after(serversAnswer)
  }
}
