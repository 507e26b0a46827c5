import { expect, test } from 'vitest'
import { createClockCheck } from './clock-check.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const NOON = Date.parse('2026-01-01T12:00:00Z')

/** What is said at these minutes, of a machine whose clock is ahead by `ahead` hours then. */
function saidAt(times: [minute: number, ahead: number][]): boolean[] {
  const check = createClockCheck()
  return times.map(([minute, ahead]) => {
    const monotonic = minute * MINUTE_MS
    return check({ databaseAhead: 0, wall: NOON + monotonic + ahead * HOUR_MS, monotonic }) !== undefined
  })
}

test('nothing is deleted while the clock of the database is minutes ahead of that of the machine', () => {
  const check = createClockCheck()
  const said = (databaseAhead: number) => check({ databaseAhead, wall: NOON, monotonic: 0 })
  expect(said(4 * MINUTE_MS)).toBeUndefined()
  expect(said(-24 * HOUR_MS)).toBeUndefined()
  expect(said(24 * HOUR_MS)).toBe("the database's clock is 86400 s ahead of this machine's")
  expect(said(0)).toBeUndefined()
})

test('nothing is deleted for an hour after the clock of the machine was set ahead, each time', () => {
  expect(
    saidAt([
      [0, 0],
      [1, 2400],
      [30, 2400],
      [60, 2400],
      [61, 2400],
      [62, 4800],
    ]),
  ).toEqual([false, true, true, true, false, true])
  // Set right in between.
  expect(
    saidAt([
      [0, 0],
      [1, 2400],
      [2, 0],
      [62, 0],
      [63, 2400],
    ]),
  ).toEqual([false, true, true, false, true])
})

test('a clock that is set back, or by less than five minutes, or a machine that was busy for long, keeps nothing', () => {
  expect(
    saidAt([
      [0, 0],
      [1, -2400],
      [2, -2400],
      [3, -2399.95],
      [500, -2399.95],
    ]),
  ).not.toContain(true)
})
