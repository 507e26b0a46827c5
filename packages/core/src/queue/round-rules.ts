import type { Job } from 'bullmq'

// What makes a round: which jobs are together in one, how many, and in which order.

const MAX_JOBS = 32
/** Of the jobs' data as it is kept. What is packed in it may be ten times larger. */
const MAX_BYTES = 256 * 1024

/** Whether `jobs` are all that one round takes. */
export function isFull(jobs: readonly Job[]): boolean {
  return !hasPlaces(jobs, 1) || bytesOf(jobs) >= MAX_BYTES
}

/** Whether `count` more jobs would not be too many for one round. */
export function hasPlaces(jobs: readonly Job[], count: number): boolean {
  return jobs.length + count <= MAX_JOBS
}

/** How many jobs the round after `jobs` begins with: as many, or fewer if these were too large for one round. */
export function countAfter(jobs: readonly Job[]): number {
  const share = Math.min(1, MAX_BYTES / bytesOf(jobs))
  return Math.max(1, Math.floor(jobs.length * share))
}

/** By their ids, which begin with the time. */
export function inOrder(jobs: readonly Job[]): Job[] {
  return jobs.toSorted((a, b) => (a.id! < b.id! ? -1 : 1))
}

/**
 * Splits `jobs` into rounds. A job whose process died with it in hand may be the cause, so it gets a round of its own, after
 * the others. The order of such jobs is random, so that those behind the one to blame get their turn in some process.
 */
export function apart(jobs: readonly Job[]): Job[][] {
  const suspects = jobs.filter(({ stalledCounter }) => stalledCounter > 0)
  const others = jobs.filter(({ stalledCounter }) => stalledCounter === 0)
  const shuffled = suspects.map((job) => ({ job, key: Math.random() })).toSorted((a, b) => a.key - b.key)
  return [others, ...shuffled.map(({ job }) => [job])].filter(({ length }) => length > 0)
}

/** The total length of the texts that the jobs hold; at least 1. */
function bytesOf(jobs: readonly Job[]): number {
  const texts = jobs.flatMap(({ data }) =>
    Object.values((data as object | null) ?? {}).filter((value) => typeof value === 'string'),
  )
  return texts.reduce((sum, { length }) => sum + length, 1)
}
