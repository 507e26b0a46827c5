import { expect, test } from 'vitest'
import { planRequests } from './plan-requests.ts'
import type { PlanOptions, PlannedRequest } from './plan-requests.ts'

function plan(options: Partial<PlanOptions>): PlannedRequest[] {
  return planRequests({
    count: 1,
    batch: 1,
    duplicates: 0,
    forged: 0,
    stale: 0,
    drop: 0,
    reorder: false,
    seed: 1,
    provesEach: false,
    ...options,
  })
}

const kindsOf = (requests: PlannedRequest[]) =>
  requests.map(({ callbacks }) => callbacks.map(({ kind }) => kind[0]).join(''))

test('every share is met to the last callback, and a duplicate follows what it repeats', () => {
  const requests = plan({ count: 100, duplicates: 0.2, forged: 0.1, stale: 0.05 })
  const counts = Map.groupBy(kindsOf(requests), (kind) => kind)
  expect(Object.fromEntries([...counts].map(([kind, all]) => [kind, all.length]))).toEqual({
    g: 65,
    d: 20,
    f: 10,
    s: 5,
  })
  const seen = new Set<number>()
  for (const { callbacks } of requests) {
    const { kind, content } = callbacks[0]!
    expect(seen.has(content)).toBe(kind === 'duplicate')
    seen.add(content)
  }
})

test.each([0.07, 0.29, 0.57])('a share of %d of a hundred is what it says', (share) => {
  expect(kindsOf(plan({ count: 100, forged: share })).filter((kind) => kind === 'f')).toHaveLength(
    Math.round(share * 100),
  )
})

test('all can be forged, and one callback is never a duplicate', () => {
  expect(kindsOf(plan({ count: 3, forged: 1 }))).toEqual(['f', 'f', 'f'])
  expect(kindsOf(plan({ count: 1, duplicates: 1 }))).toEqual(['g'])
  // There is nothing genuine to repeat at first, so the first duplicate becomes the one that the others repeat.
  expect(kindsOf(plan({ count: 3, duplicates: 2 / 3, forged: 1 / 3 })).toSorted()).toEqual(['d', 'f', 'g'])
})

test('shares that are more than all are refused, and not cut', () => {
  expect(() => plan({ count: 10, duplicates: 0.6, forged: 0.6 })).toThrow(/--duplicates, --forged and --stale/)
  expect(() => plan({ count: 10, forged: 0.6, stale: 0.41 })).toThrow(/more than 100%/)
  // In binary these add up to a little more than 1.
  expect(kindsOf(plan({ count: 100, duplicates: 0.33, forged: 0.56, stale: 0.11 }))).toHaveLength(100)
})

test('forged callbacks stand beside genuine ones only where each proves itself', () => {
  const options = { count: 10, batch: 5, forged: 0.2 }
  expect(kindsOf(plan({ ...options, provesEach: true })).every((kinds) => kinds.includes('g'))).toBe(true)
  expect(kindsOf(plan(options)).toSorted()).toEqual(['ff', 'ggg', 'ggggg'])
})

test('stale callbacks are signed at another time, so they have requests of their own', () => {
  expect(kindsOf(plan({ count: 10, batch: 5, stale: 0.2, provesEach: true })).toSorted()).toEqual([
    'ggg',
    'ggggg',
    'ss',
  ])
})

test('dropped requests are as many as was asked for', () => {
  expect(plan({ count: 10, drop: 0.3 }).filter(({ dropped }) => dropped)).toHaveLength(3)
  expect(plan({ count: 1, drop: 1 })[0]!.dropped).toBe(true)
})

test('reordering loses nothing, and the same seed gives the same order', () => {
  const contents = (requests: PlannedRequest[]) => requests.map(({ callbacks }) => callbacks[0]!.content)
  const ordered = contents(plan({ count: 50 }))
  const shuffled = contents(plan({ count: 50, reorder: true }))
  expect(shuffled).not.toEqual(ordered)
  expect(shuffled.toSorted((a, b) => a - b)).toEqual(ordered)
  expect(contents(plan({ count: 50, reorder: true }))).toEqual(shuffled)
  expect(contents(plan({ count: 50, reorder: true, seed: 2 }))).not.toEqual(shuffled)
})
