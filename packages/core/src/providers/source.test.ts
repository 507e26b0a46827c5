import { expect, test } from 'vitest'
import { sourceOf } from '../../test/support/sign-and-read.ts'
import { plivo } from './plivo.ts'
import { isBaseUrl } from './source.ts'
import type { SourceOptions } from './source.ts'
import { voximplant } from './voximplant.ts'
import type { VoximplantOptions } from './voximplant.ts'

const SECRET = 'hush'

test.each([
  ['a misspelt name', { adresses: ['203.0.113.0/24'] }, 'Unrecognized key: "adresses"'],
  ['a text for a switch, which would be on', { shadow: 'false' }, 'shadow: '],
  ['another', { urlTokens: 't', allowUnsigned: 'false' }, 'allowUnsigned: '],
  ['a number that is none', { toleranceSeconds: Number.NaN }, 'toleranceSeconds: '],
  ['a secret that is no text', { secrets: 42 }, 'secrets: must be a text, env(...), or a list of these'],
  ['no addresses at all', { addresses: [] }, 'addresses: an empty list would refuse every request'],
  ['an answer that is no answer', { answer: 'OK' }, 'answer: '],
  ['a bearer token in two words', { bearerTokens: ['good', 'two words'] }, 'bearerTokens: a token has white space'],
  ['a bearer token with a line end', { bearerTokens: 'word\n' }, 'bearerTokens: a token has white space'],
  ['a URL token that a path cannot hold', { urlTokens: 'ab/cd' }, 'urlTokens: a token has characters'],
  ['a header that cannot come', { headers: { 'X-Key': 'word\n' } }, 'headers.X-Key: a value has white space'],
  [
    'two passwords in one header',
    { secrets: [], basicAuth: { username: 'u', password: 'word' }, headers: { Authorization: 'word' } },
    'more than one of them needs the header "authorization"',
  ],
  [
    'a password and a token in one header',
    { secrets: [], basicAuth: { username: 'u', password: 'word' }, bearerTokens: 'word' },
    'more than one of them needs the header "authorization"',
  ],
  [
    'one header in two spellings',
    { headers: { 'X-A': 'word', 'x-a': 'word2' } },
    'more than one of them needs the header "x-a"',
  ],
  ['a header that is none', { headers: { 'X Key': 'word' } }, 'headers: "X Key" is no name'],
])('options that could not do what they say are refused: %s', (_name, options, text) => {
  const load = () => sourceOf(plivo({ secrets: SECRET, ...options } as SourceOptions<never>))
  expect(load).toThrow(text)
  expect(load).not.toThrow(/hush|word/)
})

test('an account of Voximplant is checked as well', () => {
  // As in a configuration whose types nobody checks.
  const accounts = [{ accountId: '1', apiKey: SECRET, salt: SECRET }] as unknown as VoximplantOptions['accounts']
  expect(() => sourceOf(voximplant({ accounts: accounts! }))).toThrow(/accounts\.0\.salts: /)
})

test('a base URL is a text to which paths can be added', () => {
  for (const url of ['https://x', 'HTTPS://x/hooks/', 'http://127.0.0.1:8080']) expect(isBaseUrl(url), url).toBe(true)
  for (const url of [' https://x', 'https://x ', 'https:x', 'https://x/?', 'https://x#', 'ftp://x', 'https://']) {
    expect(isBaseUrl(url), url).toBe(false)
  }
})
