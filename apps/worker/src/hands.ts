/** The jobs of one queue that a worker has in hand. */
export interface Hands {
  /** Runs a job. By `mayTake` the job says for how many ms from now it may show no sign of life. */
  take: <Result>(job: (mayTake: (ms: number) => void) => Promise<Result>) => Promise<Result>
  /** Notes that a server has answered: whatever the answer, the worker is not stuck. */
  move: () => void
  /** How often a job has begun or ended, or a server has answered. */
  moves: () => number
  /** Whether another job could be taken, or all in hand have taken longer than they may. `now` is of performance.now(). */
  isFree: (now: number) => boolean
}

/** Makes the hands for `size` jobs at a time, each of which may take `defaultMs` unless it says otherwise. */
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
