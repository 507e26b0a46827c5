import type { Logger } from '@ringback/core/log'

const SAID_AGAIN_AFTER_MS = 60_000

export interface WaitOptions {
  log: Pick<Logger, 'warn'>
  /** Waits between two tries. If it rejects, nothing more is tried. */
  pause: () => Promise<void>
  now?: () => number
}

/**
 * Makes the function that tries its work until that succeeds, and resolves to its result; it rejects only as `pause` does.
 * The problem is logged as `worker.waiting`: at once when it is a new one, and then every minute.
 */
export function createUntilItSucceeds({
  log,
  pause,
  now = Date.now,
}: WaitOptions): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let said: { problem: string; at: number } | undefined

  function say(problem: string): void {
    if (problem === said?.problem && now() - said.at < SAID_AGAIN_AFTER_MS) return
    log.warn({ problem }, 'worker.waiting')
    said = { problem, at: now() }
  }

  return async (work) => {
    for (;;) {
      try {
        return await work()
      } catch (error) {
        say((error as Error).message)
      }
      await pause()
    }
  }
}
