import { expect, test } from 'vitest'
import { defineConfig, env, resolveConfig } from '../config.ts'
import { demoCredentials, voximplant } from '../providers/voximplant.ts'
import { forward } from './forward.ts'
import type { ForwardAction, ForwardOptions } from './forward.ts'

const { accountId, apiKey, salt } = demoCredentials
const sources = { voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] }) }

function resolve(options: ForwardOptions, environment: Record<string, string> = {}): ForwardAction {
  const config = resolveConfig(
    defineConfig({ sources, handlers: [{ name: 'there', run: forward(options) }] }),
    environment,
  )
  return config.handlers[0]!.run as ForwardAction
}

const url = 'https://example.com/hook'
const secret = `whsec_${Buffer.alloc(24, 1).toString('base64')}`

test('urls, tokens, headers and secrets may come from the environment', () => {
  const action = resolve(
    {
      url: env('THERE'),
      fallbackUrl: env('ELSEWHERE'),
      bearerToken: env('TOKEN'),
      headers: { 'X-Team': env('TEAM') },
      sign: { secrets: [env('SECRET'), env('SECRET_PREVIOUS')] },
    },
    { THERE: url, ELSEWHERE: 'https://example.org/', TOKEN: 'abc', TEAM: 'billing', SECRET: secret },
  )
  expect(action).toMatchObject({
    url,
    fallbackUrl: 'https://example.org/',
    headers: { authorization: 'Bearer abc', 'x-team': 'billing' },
    signingKeys: [Buffer.alloc(24, 1)],
  })
})

test('a fallback that is not set is none', () => {
  expect(resolve({ url, fallbackUrl: env('ELSEWHERE') }).fallbackUrl).toBeUndefined()
})

test('user and password become Basic authentication in UTF-8', () => {
  const { headers } = resolve({ url, basicAuth: { username: 'ä', password: 'p:w' } })
  expect(headers.authorization).toBe(`Basic ${Buffer.from('ä:p:w').toString('base64')}`)
})

test.each<[string, object, RegExp]>([
  ['a variable that is not set', { url: env('THERE') }, /handlers\.there: THERE is not set \(url\)/],
  ['another scheme', { url: 'ftp://example.com' }, /url must begin with https/],
  ['a file', { url: 'file:///etc/passwd' }, /url must begin with https/],
  ['no URL', { url: 'https://' }, /url is no URL/],
  ['a user in the URL', { url: 'https://hush@example.com' }, /use basicAuth/],
  ['a password in the URL', { url: 'https://user:hush@example.com' }, /use basicAuth/],
  [
    'a private address',
    { url: 'http://10.0.0.1/' },
    /: url is refused: the address 10\.0\.0\.1 is not a public one.*allowAddresses/,
  ],
  ['a private address in disguise', { url: 'http://0x7f.1/' }, /127\.0\.0\.1 is not a public one/],
  ['a private address of the fallback', { url, fallbackUrl: 'http://[::1]/' }, /fallbackUrl.* ::1 is not/],
  ['a token in the host', { url: 'https://((host)).example.com', as: 'get' }, /not in its host/],
  ['a token that becomes the host', { url: 'https:///((host))', as: 'get' }, /url is no URL/],
  ['a space in the URL', { url: 'https://\n/((host))', as: 'get' }, /url is no URL/],
  ['a misspelt option', { url, basicauth: {} }, /basicauth/],
  ['an unknown form', { url, as: 'xml' }, /as: Invalid option/],
  ['two kinds of authorization', { url, bearerToken: 'a', headers: { Authorization: 'b' } }, /exclude each other/],
  ['a header of the connection', { url, headers: { Host: 'a' } }, /host is written by forward itself/],
  ['a name that no header has', { url, headers: { 'a b': 'hush' } }, /headers: "a b" is no name of a header/],
  ['a header with a line end', { url, headers: { a: 'hush\r\nb: c' } }, /headers\.a has characters/],
  ['a signing secret that is none', { url, sign: { secrets: 'hush' } }, /sign\.secrets: a secret is "whsec_"/],
  ['no signing secret', { url, sign: { secrets: [env('SECRET')] } }, /none of them is set/],
  ['a certificate that is none', { url, clientCertificate: { cert: 'hush', key: 'hush' } }, /clientCertificate: /],
  ['a range that is none', { url, allowAddresses: ['127.0.0.0/33'] }, /allowAddresses: /],
  ['too many redirects', { url, maxRedirects: 100 }, /maxRedirects/],
])('the configuration says what is wrong with %s, and shows no value', (_what, options, message) => {
  expect(() => resolve(options as ForwardOptions)).toThrow(message)
  expect(() => resolve(options as ForwardOptions)).not.toThrow(/hush/)
})

test('the destination of a forward has a circuit breaker by default', () => {
  const config = resolveConfig(defineConfig({ sources, handlers: [{ name: 'there', run: forward({ url }) }] }), {})
  expect(config.handlers[0]!.limits).toMatchObject({ breaker: { minAttempts: 10 } })
})
