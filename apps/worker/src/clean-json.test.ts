import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cleanJson } from './clean-json.ts'

describe('what jsonb refuses is replaced', () => {
  test.each([
    ['U+0000', String.raw`"a\u0000b"`, '"a\ufffdb"'],
    ['a lone high surrogate', String.raw`"\ud800x"`, '"\ufffdx"'],
    ['a lone low surrogate', String.raw`"\uDC00"`, '"\ufffd"'],
    ['two high surrogates', String.raw`"\ud83d\ud83d\udd14"`, '"\ufffd\ud83d\udd14"'],
    ['a key', String.raw`{"\u0000":1}`, '{"\ufffd":1}'],
    ['an escape beyond ASCII', String.raw`"\ud83d\udd14\u00e9"`, '"\ud83d\udd14\u00e9"'],
    ['a number beyond numeric', '[1e200000,-1E-99999]', '["1e200000","-1E-99999"]'],
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
