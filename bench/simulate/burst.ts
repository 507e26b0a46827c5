/** A burst, and how the number of workers follows the age of the oldest callback. */
export interface Burst {
  /** Events a second before and after, and during the burst. */
  usual: number
  burst: number
  burstSeconds: number
  /** Events a second that one worker can store, and that Postgres can take from all of them. */
  perWorker: number
  postgres: number
  workers: { least: number; most: number }
}

export interface BurstOutcome {
  mostWorkers: number
  /** The greatest age of the oldest waiting callback, in seconds. */
  greatestAge: number
  greatestBacklog: number
  /** Time from the end of the burst until nothing waits, in seconds. */
  drainedAfter: number
}

/** KEDA's settings in docs/scaling.md: the age that is too old, how often it is read, how long a worker takes to start. */
export const TARGET_AGE_SECONDS = 10
export const POLL_SECONDS = 15
export const START_SECONDS = 20

const STEP_SECONDS = 0.1
const LONGEST_SECONDS = 3600

/**
 * Simulates callbacks as a fluid, first in, first out. The number of workers follows Kubernetes's rule, workers * age /
 * target, at most doubled or 4 more at a time.
 */
export function simulateBurst(burst: Burst): BurstOutcome {
  const { least, most } = burst.workers
  const outcome: BurstOutcome = { mostWorkers: least, greatestAge: 0, greatestBacklog: 0, drainedAfter: 0 }
  let workers = least
  let wanted = least
  const starting: { at: number; workers: number }[] = []
  let arrived = 0
  let stored = 0
  /** How many had arrived at each step. From that follows when the one that is stored next arrived. */
  const arrivedAt: number[] = []
  let oldest = 0

  for (let step = 0; step * STEP_SECONDS < LONGEST_SECONDS; step++) {
    const time = step * STEP_SECONDS
    arrived += (time < burst.burstSeconds ? burst.burst : burst.usual) * STEP_SECONDS
    arrivedAt.push(arrived)
    while (starting[0] !== undefined && starting[0].at <= time) workers = starting.shift()!.workers
    stored = Math.min(arrived, stored + Math.min(workers * burst.perWorker, burst.postgres) * STEP_SECONDS)
    while (arrivedAt[oldest]! <= stored && oldest < step) oldest += 1
    const age = arrived - stored < 1 ? 0 : time - oldest * STEP_SECONDS

    outcome.greatestAge = Math.max(outcome.greatestAge, age)
    outcome.greatestBacklog = Math.max(outcome.greatestBacklog, arrived - stored)
    if (time > burst.burstSeconds && arrived - stored < 1)
      return { ...outcome, drainedAfter: time - burst.burstSeconds }

    if (step % (POLL_SECONDS / STEP_SECONDS) === 0 && age > TARGET_AGE_SECONDS) {
      const next = Math.min(most, Math.ceil((wanted * age) / TARGET_AGE_SECONDS), Math.max(wanted * 2, wanted + 4))
      if (next > wanted) {
        wanted = next
        starting.push({ at: time + START_SECONDS, workers: wanted })
        outcome.mostWorkers = wanted
      }
    }
  }
  return { ...outcome, drainedAfter: Infinity }
}
