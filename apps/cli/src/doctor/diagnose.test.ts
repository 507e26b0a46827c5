import { randomUUIDv7 } from 'node:crypto'
import { resolveConfig } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { messagebird } from '@ringback/core/providers/messagebird'
import { twilio } from '@ringback/core/providers/twilio'
import { expect, test } from 'vitest'
import type { Quarantined } from '../quarantined-request.ts'
import { diagnose } from './diagnose.ts'
import type { Diagnosis } from './diagnose.ts'

function configWith(environment: Record<string, string>): Config {
  const sources = { twilio: twilio({ secrets: 'secret', urlTokens: 'hush' }) }
  return resolveConfig({ sources, trustedProxies: ['10.0.0.1'] }, environment)
}

const BASE_URL = 'https://hooks.example.test'
const config = configWith({ PUBLIC_BASE_URL: BASE_URL })

/** The quarantined row of a request that was signed for `calledUrl`. */
function refused(calledUrl: string, fields: Partial<Quarantined> = {}): Quarantined {
  const unsigned = {
    method: 'POST' as const,
    url: calledUrl,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from('SmsSid=SM1&SmsStatus=delivered'),
  }
  const receivedAt = new Date()
  const { method, headers, body } = config.sources.get('twilio')!.sign(unsigned, { at: receivedAt })
  return {
    id: randomUUIDv7(),
    source: 'twilio',
    reason: 'signature_mismatch',
    receivedAt,
    method,
    url: '/callbacks/twilio/***',
    remoteAddress: '192.0.2.1',
    headers: { ...headers, ...fields.headers },
    body,
    callbackId: null,
    error: null,
    releasedAt: null,
    scope: 'request',
    releasedAs: null,
    ...(fields.reason && { reason: fields.reason }),
  }
}

function diagnosis(row: Quarantined, by = config, baseUrl = BASE_URL): Diagnosis {
  return diagnose(row, { source: by.sources.get('twilio')!, config: by, baseUrl })
}

const PATH = '/callbacks/twilio/hush'

test('what passes today is said to pass, unless it was refused for something else', () => {
  expect(diagnosis(refused(`https://hooks.example.test${PATH}`))).toEqual({ kind: 'passes' })
  expect(diagnosis(refused(`https://hooks.example.test${PATH}`, { reason: 'nonce_reused' }))).toMatchObject({
    kind: 'refused',
    advice: expect.stringContaining('with other content'),
  })
})

test.each([
  [`http://hooks.example.test${PATH}`, undefined, {}],
  [`https://hooks.example.test${PATH}/`, undefined, {}],
  [`https://other.example.test/in${PATH}`, 'https://other.example.test/in', {}],
  [`https://a.example.test${PATH}`, undefined, { 'x-forwarded-host': 'proxy.test, a.example.test' }],
  [
    `https://a.example.test/in${PATH}`,
    undefined,
    { 'x-forwarded-host': 'a.example.test', 'x-forwarded-prefix': '/in' },
  ],
  [`https://a.example.test${PATH}`, undefined, { forwarded: 'for=192.0.2.1;host="a.example.test";proto=https' }],
])('a request that was signed for %s is told by it, and the token stays out', (url, baseUrl, headers) => {
  const found = diagnosis(refused(url, { headers }), config, baseUrl)
  expect(found).toMatchObject({ kind: 'refused', remedy: expect.stringContaining(url.replace('hush', '***')) })
  expect(JSON.stringify(found)).not.toContain('hush')
})

test('a base URL that is a whole callback URL, of a source that is not configured, is seen through', () => {
  const mistaken = configWith({ PUBLIC_BASE_URL: 'https://hooks.example.test/in/callbacks/Twilio' })
  expect(diagnosis(refused(`https://hooks.example.test/in${PATH}`), mistaken)).toMatchObject({
    remedy: expect.stringMatching(/signed for https:\/\/hooks\.example\.test\/in\/callbacks\/twilio\/\*\*\*, while/),
  })
})

test('a URL that is not known is said to be missing, and named where a proxy names it', () => {
  const unknown = configWith({})
  const row = (headers: Record<string, string>) => refused(`https://a.example.test${PATH}`, { headers })
  expect(diagnosis(row({}), unknown)).toMatchObject({ remedy: expect.stringMatching(/does not know.*PUBLIC_BASE_URL/) })
  expect(diagnosis(row({ 'x-forwarded-host': 'a.example.test' }), unknown)).toMatchObject({
    remedy: expect.stringMatching(
      /signed for https:\/\/a\.example\.test\/callbacks\/twilio\/\*\*\*, and Ringback does not know/,
    ),
  })
})

test('a token for another URL that nobody names is said to be genuine, and what to set', () => {
  const secrets = 'secret'
  const environment = { PUBLIC_BASE_URL: BASE_URL }
  const by = resolveConfig({ sources: { messagebird: messagebird({ secrets }) } }, environment)
  const source = by.sources.get('messagebird')!
  const refusedFor = (baseUrl: string): Diagnosis => {
    const row = refused(`${baseUrl}${PATH}`)
    const unsigned = { method: 'POST' as const, url: `${baseUrl}/callbacks/messagebird`, headers: {}, body: row.body }
    const { headers } = source.sign(unsigned, { at: row.receivedAt })
    return diagnose({ ...row, url: '/callbacks/messagebird', headers }, { source, config: by, baseUrl: BASE_URL })
  }
  expect(refusedFor('https://elsewhere.example.test')).toEqual({
    kind: 'refused',
    reason: 'url_hash_mismatch',
    advice: expect.stringMatching(/signature is genuine.*PUBLIC_BASE_URL, or publicBaseUrl/),
  })
  expect(refusedFor('http://hooks.example.test')).toMatchObject({
    reason: 'url_hash_mismatch',
    remedy: expect.stringMatching(/signed for http:\/\/hooks.*, while Ringback takes itself.*PUBLIC_BASE_URL/),
  })
})

test('what nothing would have let in has advice and no remedy', () => {
  const found = diagnosis(refused('https://elsewhere.example.test/'))
  expect(found).toEqual({ kind: 'refused', reason: 'signature_mismatch', advice: expect.any(String) })
})
