// Histograms of times, as Postgres keeps them: migrations/0004_monitoring.sql has the same bounds and makes percentiles.

/** Upper bounds of the buckets, in milliseconds. One bucket more, the last, takes what is longer. */
export const HISTOGRAM_BOUNDS_MS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000,
] as const

/** A histogram without entries. */
export function emptyHistogram(): number[] {
  return Array.from({ length: HISTOGRAM_BOUNDS_MS.length + 1 }, () => 0)
}

/** Counts one time. */
export function observe(histogram: number[], ms: number): void {
  const bucket = HISTOGRAM_BOUNDS_MS.findIndex((bound) => ms <= bound)
  histogram[bucket === -1 ? HISTOGRAM_BOUNDS_MS.length : bucket]! += 1
}
