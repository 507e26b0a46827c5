import { describe, expect, test } from 'vitest'
import { isHashOf, parseJwt, proofOf, signJwt, timeProblem } from './jwt.ts'
import { holds } from './proof.ts'

const now = new Date('2026-01-01T00:00:00Z')
const encode = (text: string) => Buffer.from(text).toString('base64url')

test('the published example of RFC 7515, with white space in its header, is taken apart and verified', () => {
  const token = [
    'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9',
    'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ',
    'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  ].join('.')
  const key = Buffer.from(
    'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
    'base64url',
  )
  const jwt = parseJwt(token, ['HS256'])!
  expect(jwt.claims).toEqual({ iss: 'joe', exp: 1300819380, 'http://example.com/is_root': true })
  expect(holds(proofOf(jwt, 'body'), key)).toBe(true)
  expect(timeProblem(jwt, new Date(1300819384_999))).toBeUndefined()
  expect(timeProblem(jwt, new Date(1300819385_000))).toBe('timestamp_out_of_tolerance')
})

describe('a token is read in one spelling only', () => {
  const token = signJwt({ a: 1 }, 'secret')
  const [header, claims, signature] = token.split('.') as [string, string, string]

  test.each([
    ['empty', ''],
    ['two parts', `${header}.${claims}`],
    ['four parts', `${token}.${signature}`],
    ['five parts, as encrypted ones have', `${token}.${signature}.${signature}`],
    ['padding', `${token}=`],
    ['a character that decodes to nothing', `${token}AA`],
    ['bits behind the last byte', `${header}.${claims}.${signature.slice(0, -1)}${nextCharacter(signature)}`],
    ['a space', ` ${token}`],
    ['header no object', `${encode('"HS256"')}.${claims}.${signature}`],
    ['claims no object', `${header}.${encode('[]')}.${signature}`],
    ['claims cut', `${header}.${encode('{')}.${signature}`],
    ['longer than any', signJwt({ a: 'x'.repeat(6200) }, 'secret')],
  ])('%s', (_name, text) => {
    expect(parseJwt(text, ['HS256'])).toBeUndefined()
  })

  test('only by the algorithms asked for', () => {
    expect(parseJwt(signJwt({}, 's', 'HS512'), ['HS256'])).toBeUndefined()
    expect(parseJwt(signJwt({}, 's', 'HS512'), ['HS256', 'HS512'])).toMatchObject({ algorithm: 'HS512' })
    expect(parseJwt(`${encode('{"alg":"none"}')}.${encode('{}')}.AA`, ['HS256'])).toBeUndefined()
  })

  test('nesting as deep as the length allows is no error', () => {
    const deep = `${header}.${encode(`{"a":${'['.repeat(2900)}${']'.repeat(2900)}}`)}.${signature}`
    expect(parseJwt(deep, ['HS256'])).toBeDefined()
  })
})

test('a token that does not say when it was made is as old as can be', () => {
  expect(proofOf(parseJwt(signJwt({}, 's'), ['HS256'])!, 'body').signedAt).toEqual(new Date(0))
  expect(timeProblem(parseJwt(signJwt({}, 's'), ['HS256'])!, now)).toBeUndefined()
})

test.each([undefined, null, 1, '', 'zz', [], {}, '00'.repeat(31), '00'.repeat(33)])(
  '%j is the hash of nothing',
  (claim) => {
    expect(isHashOf(claim, '')).toBe(false)
  },
)

/** The same bytes to a lenient decoder: the last character of 32 bytes carries two spare bits. */
function nextCharacter(text: string): string {
  return String.fromCharCode(text.charCodeAt(text.length - 1) + 1)
}
