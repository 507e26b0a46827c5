import { expect, test } from 'vitest'
import { timeOrAge } from './options.ts'

test.each([
  ['2026-01-31T12:00Z', '2026-01-31T12:00:00.000Z'],
  ['2026-01-31T12:00:01.250Z', '2026-01-31T12:00:01.250Z'],
  ['2026-01-31T12:00+02:00', '2026-01-31T10:00:00.000Z'],
  ['2026-01-31T12:00:01Z', '2026-01-31T12:00:01.000Z'],
  ['2028-02-29', '2028-02-29T00:00:00.000Z'],
])('the time %s is %s', (text, time) => {
  expect(timeOrAge(text).toISOString()).toBe(time)
})

test.each([
  ['90s', 90_000],
  ['15m', 15 * 60_000],
  ['2h', 2 * 3_600_000],
  ['7d', 7 * 86_400_000],
  ['1w', 7 * 86_400_000],
])('the age %s is so long ago', (text, ms) => {
  expect(Math.abs(Date.now() - ms - timeOrAge(text).getTime())).toBeLessThan(1000)
})

// Date takes most of these for times, of long ago or of the next month.
test.each(
  '5,0,-1,last 2,2026,2026-02-30,2026-02-29T00:00Z,2026-01-31T12:00,-1h,999999999d,99999999d,0000-01-01,9999-12-31T23:59-01:00,soon,'.split(
    ',',
  ),
)('%j is neither a time nor an age', (text) => {
  expect(() => timeOrAge(text)).toThrow('It must be a time')
})
