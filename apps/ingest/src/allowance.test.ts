import { expect, test } from 'vitest'
import { createAllowance } from './allowance.ts'

test('each source may put so many items and bytes into quarantine a minute, and no more', () => {
  let now = 0
  const allow = createAllowance({ items: 2, bytes: 100 }, () => now)
  expect([allow('a', 10), allow('a', 10), allow('a', 10)]).toEqual([true, true, false])
  expect([allow('b', 90), allow('b', 20), allow('b', 10)]).toEqual([true, false, true])
  now = 59_999
  expect(allow('a', 10)).toBe(false)
  now = 60_000
  expect([allow('a', 10), allow('a', 10), allow('a', 10)]).toEqual([true, true, false])
})
