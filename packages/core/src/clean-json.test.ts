import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cleanJson, mayHaveLargeExponents } from './clean-json.ts'

describe('what jsonb refuses is replaced', () => {
  test.each([
    ['U+0000', String.raw`"a\u0000b"`, '"a\ufffdb"'],
    ['a lone high surrogate', String.raw`"\ud800x"`, '"\ufffdx"'],
    ['a lone low surrogate', String.raw`"\uDC00"`, '"\ufffd"'],
    ['two high surrogates', String.raw`"\ud83d\ud83d\udd14"`, '"\ufffd\ud83d\udd14"'],
    ['a key', String.raw`{"\u0000":1}`, '{"\ufffd":1}'],
    ['an escape beyond ASCII', String.raw`"\ud83d\udd14\u00e9"`, '"\ud83d\udd14\u00e9"'],
    ['a number beyond numeric', '[1e200000,-1E-99999]', '["1e200000","-1E-99999"]'],
    ['a number beyond a double', '[5e-324,1e325,-1.5E-0325]', '[5e-324,"1e325","-1.5E-0325"]'],
  ])('%s', (_what, json, clean) => expect(cleanJson(json)).toBe(clean))
})

describe('what jsonb takes stays as it is', () => {
  test.each([
    ['escapes within ASCII', String.raw`"\u0022\u005c\u001f"`],
    ['an escaped backslash before "u0000"', String.raw`"\\u0000"`],
    ['numbers', '[1.0,-0,9007199254740993,1e10,0.1E-5]'],
    ['digits in a string', '"1e200000"'],
  ])('%s', (_what, json) => expect(cleanJson(json)).toBe(json))

  test('any value that JSON.stringify prints and that has no bad character', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const json = JSON.stringify(value)
        if (!json.includes(String.raw`\u`)) expect(cleanJson(json)).toBe(json)
      }),
    )
  })
})

test.each(['1e309', '{"a":-1.5E+0309}', '[0,1e-309]', '{"a":[\n1e131071]}'])('a large exponent is seen in %j', (json) =>
  expect(mayHaveLargeExponents(Buffer.from(json))).toBe(true),
)

test.each(['{"a":1e10}', '{"id":"3e100f5e999"}', '[1,2]', '"1e309"'])('none is seen in %j', (json) =>
  expect(mayHaveLargeExponents(Buffer.from(json))).toBe(false),
)
