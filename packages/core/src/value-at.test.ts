import { expect, test } from 'vitest'
import { valueAt } from './value-at.ts'

const payload = { call: { legs: [{ to: '1' }], none: null }, 'a.b': 'dotted' }

test.each([
  [['call', 'legs', '0', 'to'], '1'],
  [['call', 'none'], null],
  [['call', 'none', 'more'], undefined],
  [['call', 'nothing'], undefined],
  [['a.b'], 'dotted'],
  [['a', 'b'], undefined],
  [['call', 'legs', 'length'], 1],
  [['constructor'], undefined],
  [['__proto__', 'toString'], undefined],
  [[], payload],
])('%j leads to %j', (steps, expected) => {
  expect(valueAt(payload, steps)).toEqual(expected)
})

test.each([undefined, null, 'text', 7])('nothing is in %j', (from) => {
  expect(valueAt(from, ['length'])).toBeUndefined()
})
