import { expect, test } from 'vitest'
import { createThrottle } from './throttle.ts'

test('each key is let through once in the interval, with how often it was held back before', () => {
  let now = 0
  const throttle = createThrottle(1000, () => now)
  expect([throttle('a'), throttle('a'), throttle('b'), throttle('a')]).toEqual([0, undefined, 0, undefined])
  now = 999
  expect(throttle('a')).toBeUndefined()
  now = 1000
  expect([throttle('a'), throttle('b'), throttle('a')]).toEqual([3, 0, undefined])
})
