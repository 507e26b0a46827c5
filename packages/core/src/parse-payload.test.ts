import { expect, test } from 'vitest'
import { parsePayload } from './parse-payload.ts'

test('an integer that a JavaScript number would round is a string with every digit', () => {
  expect(
    parsePayload('{"id":9007199254740993,"list":[-9223372036854775808],"small":1,"fraction":0.1234567890123456}'),
  ).toEqual({
    id: '9007199254740993',
    list: ['-9223372036854775808'],
    small: 1,
    fraction: 0.1234567890123456,
  })
})

test('other values are those of JSON.parse', () => {
  expect(parsePayload('{"a":[1,null,"1234567890123456"],"__proto__":{"b":1}}')).toEqual(
    JSON.parse('{"a":[1,null,"1234567890123456"],"__proto__":{"b":1}}'),
  )
})
