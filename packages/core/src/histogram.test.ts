import { expect, test } from 'vitest'
import { HISTOGRAM_BOUNDS_MS, emptyHistogram, observe } from './histogram.ts'

test('each time is counted once, bounds belong to the bucket below them, and nothing is too long', () => {
  const histogram = emptyHistogram()
  for (const ms of [0, 1, 1.01, 60_000, 60_001, 1e12]) observe(histogram, ms)
  expect(histogram).toEqual([2, 1, ...HISTOGRAM_BOUNDS_MS.slice(3).map(() => 0), 1, 2])
})
