import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import { env } from '../config.ts'
import { fonestorm } from './fonestorm.ts'
import { plivo } from './plivo.ts'
import type { Source } from './provider.ts'
import { isBaseUrl } from './source.ts'
import type { SourceOptions } from './source.ts'
import { vobiz } from './vobiz.ts'
import { vonage } from './vonage.ts'
import { voximplant } from './voximplant.ts'
import type { VoximplantOptions } from './voximplant.ts'

const SECRET = 'hush'
const MESSAGE = '{"id":"m1","msg":"hello"}'

test.each([
  ['a misspelt name', { adresses: ['203.0.113.0/24'] }, 'Unrecognized key: "adresses"'],
  ['a text for a switch, which would be on', { shadow: 'false' }, 'shadow: '],
  ['another', { urlTokens: 't', allowUnsigned: 'false' }, 'allowUnsigned: '],
  ['a number that is none', { toleranceSeconds: Number.NaN }, 'toleranceSeconds: '],
  ['a time in which nothing could come', { toleranceSeconds: -300 }, 'toleranceSeconds: '],
  ['a secret that is no text', { secrets: 42 }, 'secrets: must be a text, env(...), or a list of these'],
  ['no addresses at all', { addresses: [] }, 'addresses: an empty list would refuse every request'],
  ['an answer that is no answer', { answer: 'OK' }, 'answer: '],
  ['a bearer token in two words', { bearerTokens: ['good', 'two words'] }, 'bearerTokens: a token has white space'],
  ['a bearer token with a line end', { bearerTokens: 'word\n' }, 'bearerTokens: a token has white space'],
  ['a URL token that a path cannot hold', { urlTokens: ['good', 'ab/cd'] }, 'urlTokens: a token has characters'],
  ['a header that cannot come', { headers: { 'X-Key': ['good', 'word\n'] } }, 'headers.X-Key: a value has white space'],
  [
    'a user name that ends early',
    { basicAuth: { username: 'a:b', password: 'word' } },
    'basicAuth.username may not hold',
  ],
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

test('a scheme that signs in a header takes no password there, unless nothing is signed', () => {
  const basicAuth = { username: 'u', password: 'word' }
  expect(() => sourceOf(vonage({ secrets: SECRET, basicAuth }))).toThrow('in which this scheme signs: use urlTokens')
  expect(sourceOf(vonage({ basicAuth }))).toBeDefined()
})

test.each<SourceOptions<never>>([
  { secrets: env('UNSET') },
  { accounts: [{ accountId: env('UNSET'), secrets: env('UNSET') }] },
  { urlTokens: env('UNSET') },
  { basicAuth: { username: env('UNSET'), password: env('UNSET') } },
  { bearerTokens: env('UNSET') },
  { headers: { 'X-Key': env('UNSET') } },
])('a source is off while nothing is set of %j, addresses or not', (options) => {
  expect(sourceOf(plivo(options))).toBeUndefined()
  expect(sourceOf(plivo({ ...options, addresses: ['203.0.113.0/24'] }))).toBeUndefined()
})

test.each(['Basic dTp3b3Jk', 'basic  dTp3b3Jk', 'BASIC dTp3b3Jk'])('the password in %j is right', (authorization) => {
  const source = sourceOf(fonestorm({ basicAuth: { username: 'u', password: 'word' } }))!
  expect(source.read(requestOf({ headers: { authorization }, body: MESSAGE })).kind).toBe('read')
})

test.each([
  ['Bearer word', 'read'],
  ['bearer  word', 'read'],
  ['Bearer words', 'refused'],
  ['Bearer word more', 'refused'],
  ['word', 'refused'],
])('with the token "word", %j is %s', (authorization, kind) => {
  const source = sourceOf(fonestorm({ bearerTokens: ['new', 'word'] }))!
  expect(source.read(requestOf({ headers: { authorization }, body: MESSAGE })).kind).toBe(kind)
})

test('an address proves nothing, and an address with a secret what the secret proves', () => {
  const request = requestOf({ body: MESSAGE, headers: { 'X-Key': 'word' } })
  const addresses = ['192.0.2.0/24']
  const source = (options: SourceOptions<never>) => sourceOf(fonestorm({ addresses, ...options }))!
  expect(source({}).read(request)).toMatchObject({ callbacks: [{ verifiedBy: 'none' }] })
  expect(source({ headers: { 'X-Key': 'word' } }).read(request)).toMatchObject({
    callbacks: [{ verifiedBy: 'secret' }],
  })
})

test('what comes in a header that a secret is meant for is kept as a secret, whether any is set or not', () => {
  const source = sourceOf(plivo({ secrets: SECRET, headers: { 'X-Customer': env('UNSET') } }))!
  expect(source.credentialHeaders).toEqual(['x-customer'])
})

test('any secret of an account verifies, so that it can be rotated', () => {
  const source = sourceOf(vobiz({ accounts: [{ accountId: 'acme', secrets: ['new', SECRET] }] }))!
  expect(signAndRead(source, vobiz.provider.schemes.voice.samples.Hangup!, { secret: SECRET })).toMatchObject({
    callbacks: [{ accountId: 'acme', secret: 2 }],
  })
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

describe('the number of the secret', () => {
  const basic = (password: string) => ({ authorization: `Basic ${Buffer.from(`user:${password}`).toString('base64')}` })
  const numbersOf = (source: Source, requests: Parameters<typeof requestOf>[0][]) =>
    requests.map((request) => {
      const reading = source.read(requestOf({ body: MESSAGE, ...request }))
      return reading.kind === 'read'
        ? reading.callbacks.map((callback) => callback.kind === 'genuine' && callback.secret)
        : []
    })

  test('is that of the password, where nothing is signed', () => {
    const source = sourceOf(fonestorm({ basicAuth: { username: 'user', password: ['new', 'old'] } }))!
    expect(numbersOf(source, [{ headers: basic('new') }, { headers: basic('old') }])).toEqual([[1], [2]])
  })

  test('is that of the combination, where several secrets are lists', () => {
    const source = sourceOf(
      fonestorm({
        urlTokens: ['token-new', 'token-old'],
        basicAuth: { username: 'user', password: ['new', 'old'] },
        headers: { 'X-API-Key': 'key' },
      }),
    )!
    const requests = ['token-new', 'token-old'].flatMap((urlToken) =>
      ['new', 'old'].map((password) => ({ urlToken, headers: { ...basic(password), 'X-API-Key': 'key' } })),
    )
    expect(numbersOf(source, requests)).toEqual([[1], [2], [3], [4]])
  })

  test('counts the secrets of the signature with those beside it', () => {
    const source = sourceOf(vobiz({ scheme: 'kyc', secrets: ['new', 'old'], urlTokens: ['token-new', 'token-old'] }))!
    const request = { method: 'POST', url: '', headers: {}, body: Buffer.from('{"id":"m1"}') } as const
    const requests = ['new', 'old'].flatMap((secret) =>
      ['token-new', 'token-old'].map((urlToken) => ({ ...source.sign(request, { at: new Date(), secret }), urlToken })),
    )
    expect(numbersOf(source, requests)).toEqual([[1], [2], [3], [4]])
  })

  test('is unknown of a request from quarantine whose URL had one of several tokens', () => {
    const source = sourceOf(fonestorm({ urlTokens: ['token-new', 'token-old'] }))!
    expect(numbersOf(source, [{}])).toEqual([[undefined]])
  })

  test('is none where it would be larger than the column takes', () => {
    const many = (name: string) => Array.from({ length: 200 }, (_, index) => `${name}-${index}`)
    const headers = { 'X-API-Key': many('key'), 'X-Application-ID': many('application') }
    const source = sourceOf(fonestorm({ headers }))!
    const last = { 'X-API-Key': 'key-199', 'X-Application-ID': 'application-199' }
    const first = { ...last, 'X-API-Key': 'key-0' }
    expect(numbersOf(source, [{ headers: first }, { headers: last }])).toEqual([[200], [undefined]])
  })

  test('is none, where only addresses are asked for', () => {
    expect(numbersOf(sourceOf(fonestorm({ addresses: ['192.0.2.1'] }))!, [{}])).toEqual([[undefined]])
  })
})
