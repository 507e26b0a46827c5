import type { Sample } from './samples.ts'

// Whether a series of values stays where it is, or goes up.

export interface Growth {
  name: string
  /** Medians of the first and the last third, after the warm-up. */
  first: number
  last: number
  /** Of the straight line through all values, by the minute. */
  slopePerMinute: number
  verdict: 'flat' | 'grows'
}

/**
 * It grows if the last third lies above the first by more than a share of it and by more than what comes and goes in any
 * case, and if the line through all values rises too: one jump down at the end makes nothing flat, nor one up a leak.
 */
const MAX_SHARE = 0.15
const MARGINS: [of: RegExp, margin: number][] = [
  [/heap/, 24], // a saw: between two collections it may be anywhere in this
  [/used_memory/, 2],
  [/memory/, 24],
  [/open files/, 8],
  [/connections/, 2],
]

/** The first fifth is start-up: caches fill, code is compiled, pools open. */
const WARM_UP_SHARE = 0.2

/** Judges each value of samples that were taken every `intervalMs`; at least 6 of them. */
export function judgeGrowth(samples: readonly Sample[], intervalMs: number): Growth[] {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP_SHARE))
  const third = Math.ceil(warm.length / 3)
  return Object.keys(warm[0] ?? {}).map((name) => {
    const values = warm.map((sample) => sample[name] ?? 0)
    const first = median(values.slice(0, third))
    const last = median(values.slice(-third))
    const slopePerMinute = (slope(values) * 60_000) / intervalMs
    const margin = MARGINS.find(([of]) => of.test(name))?.[1] ?? 0
    const isHigher = last - first > Math.max(first * MAX_SHARE, margin)
    return { name, first, last, slopePerMinute, verdict: isHigher && slopePerMinute > 0 ? 'grows' : 'flat' }
  })
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

/** Least squares, by the step. */
function slope(values: number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((total, value) => total + value, 0) / values.length
  const above = values.reduce((total, value, index) => total + (index - middle) * (value - mean), 0)
  const below = values.reduce((total, _value, index) => total + (index - middle) ** 2, 0)
  return below === 0 ? 0 : above / below
}
