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
 * Remembers a look. Time counts only while the queue stands still and `serversAnswer`. Any other reason for doing nothing,
 * however short, starts the time again.
 */
export function watch(before: Watched | undefined, look: Look, now: number, serversAnswer: boolean): Watched {
  return { look, since: before !== undefined && serversAnswer && standsStill(before.look, look) ? before.since : now }
}

/** Whether work waits, none of it is taken by anybody, and this worker could take it. */
function standsStill(before: Look, look: Look): boolean {
  return (
    look.waiting > 0 &&
    look.waiting >= before.waiting &&
    Math.abs(look.oldestAt - before.oldestAt) < SAME_TIME_MS &&
    look.moves === before.moves &&
    look.isFree
  )
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
  /** In the order of `queues`. */
  let watched: Watched[] = []
  while (!signal.aborted) {
    await sleep(stuckAfterMs / 12, undefined, { signal }).catch(() => undefined) // ends the pause
    // A server that does not answer is reason enough to stand still.
    watched = await lookAll(watched).catch(() => [])
    const now = performance.now()
    for (const [index, { look, since }] of watched.entries()) {
      const stuckForMs = Math.round(now - since)
      if (signal.aborted || stuckForMs < stuckAfterMs) continue
      const oldestAgeMs = Math.round(now - look.oldestAt)
      log.fatal({ queue: queues[index]!.name, waiting: look.waiting, oldestAgeMs, stuckForMs }, 'worker.stuck')
      return exit()
    }
  }

  async function lookAll(before: Watched[]): Promise<Watched[]> {
    const looks = await Promise.all(
      queues.map(async ({ state, hands }): Promise<Look> => {
        const { waiting, oldestAgeMs, isPaused } = await state()
        const now = performance.now()
        return { waiting, oldestAt: now - oldestAgeMs, moves: hands.moves(), isFree: !isPaused && hands.isFree(now) }
      }),
    )
    // The servers are asked only where something seems to stand.
    const seemsToStand = before.some((own, index) => standsStill(own.look, looks[index]!))
    const serversAnswer =
      seemsToStand &&
      (await probe().then(
        () => true,
        () => false,
      ))
    // Reads the clock after that: a probe that fails may have taken seconds, and they do not count.
    const now = performance.now()
    return looks.map((look, index) => watch(before[index], look, now, serversAnswer))
  }
}
