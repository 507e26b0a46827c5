import type { Sample } from './samples.ts'

// Judges whether a series of values stays level or grows.

export interface Growth {
  name: string
  /** Medians of the first and the last third, after the warm-up. */
  first: number
  last: number
  /** The slope of the straight line through all values. */
  slopePerMinute: number
  verdict: 'flat' | 'grows'
}

/**
 * A series grows if its last third is above its first by more than this share of it and by more than the usual margin, and
 * if the line through all values rises too. So a single jump at the end decides nothing, down or up.
 */
const MAX_SHARE = 0.15
const MARGINS: [of: RegExp, margin: number][] = [
  [/heap/, 24], // a sawtooth: between two collections it may be anywhere in this range
  [/used_memory/, 2],
  [/memory/, 24],
  [/open files/, 8],
  [/connections/, 2],
]

/** The share of samples that count as start-up, in which caches fill, code is compiled, and pools open. */
const WARM_UP_SHARE = 0.2

/** Judges each series in samples that were taken every `intervalMs`. There must be at least 6. */
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

/** The slope of the values by least squares, per step. */
function slope(values: number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((total, value) => total + value, 0) / values.length
  const above = values.reduce((total, value, index) => total + (index - middle) * (value - mean), 0)
  const below = values.reduce((total, _value, index) => total + (index - middle) ** 2, 0)
  return below === 0 ? 0 : above / below
}
