/** What a worker has in hand of one queue. */
export interface Hands {
  /** Does a job. `mayTake` says for how long it may show no sign of life from now on. */
  take: <Result>(job: (mayTake: (ms: number) => void) => Promise<Result>) => Promise<Result>
  /** Something has answered: whatever it was, the worker is not stuck. */
  move: () => void
  /** How often something was begun, ended or answered. */
  moves: () => number
  /** Whether another job could be taken, or each in hand has taken longer than it may. `now` is of performance.now(). */
  isFree: (now: number) => boolean
}

/** `size` jobs at a time, each of which may take `defaultMs` unless it says otherwise. */
export function createHands(size: number, defaultMs: number): Hands {
  const inHand = new Set<{ until: number }>()
  let moves = 0
  const move = () => void (moves += 1)

  return {
    async take(job) {
      const own = { until: performance.now() + defaultMs }
      inHand.add(own)
      move()
      try {
        return await job((ms) => {
          own.until = performance.now() + ms
          move()
        })
      } finally {
        inHand.delete(own)
        move()
      }
    },
    move,
    moves: () => moves,
    isFree: (now) => inHand.size < size || [...inHand].every(({ until }) => until < now),
  }
}
