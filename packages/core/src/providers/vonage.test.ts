import { generateKeyPairSync } from 'node:crypto'
import { createRequire } from 'node:module'
import { tokenGenerate, verifySignature } from '@vonage/jwt'
import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vonageVectors from '../../test/vectors/vonage.json' with { type: 'json' }
import { hashClaim } from './jwt.ts'
import { vonage } from './vonage.ts'

const { jwtSecret, smsSecret, ids } = vonageVectors
const receivedAt = new Date(vonageVectors.receivedAt * 1000)
const source = sourceOf(vonage({ secrets: jwtSecret }))!
const URL = 'https://hooks.example.test/callbacks/source'

type SchemeName = keyof typeof vonage.provider.schemes
const schemeNames = Object.keys(vonage.provider.schemes) as SchemeName[]

interface Vector {
  name: string
  method?: string
  query?: string
  body?: string
  expect: Record<string, unknown>
}

describe('requests with a token, and what is made of them', () => {
  test.each(vonageVectors.jwt as (Vector & { authorization: string })[])(
    '$name',
    ({ authorization, query = '', expect: expected, ...request }) => {
      const reading = source.read(
        requestOf({ ...request, url: URL + query, headers: { Authorization: authorization }, receivedAt }),
      )
      expectReading(reading, expected)
      if ('callbackId' in expected && expected.nonces === undefined) {
        expect(reading).not.toMatchObject({ callbacks: [{ nonces: expect.anything() }] })
      }
    },
  )
})

describe('signed messages, and what is made of them', () => {
  test.each(vonageVectors.sms as (Vector & { scheme: SchemeName })[])(
    '$name',
    ({ scheme, query = '', expect: expected, ...request }) => {
      const sms = sourceOf(vonage({ scheme, secrets: smsSecret }))!
      expectReading(sms.read(requestOf({ ...request, url: URL + query, receivedAt })), expected)
    },
  )
})

function expectReading(reading: unknown, expected: Record<string, unknown>): void {
  if ('refused' in expected) expect(reading).toMatchObject({ kind: 'refused', reason: expected.refused })
  else expect(reading).toMatchObject({ callbacks: [{ kind: 'genuine', ...expected }] })
}

test.each(ids)('the name, type and time of $body', ({ body, callbackId, type, occurredAt }) => {
  const open = sourceOf(vonage({ urlTokens: 'token' }))!
  expect(open.read(requestOf({ body, receivedAt }))).toMatchObject({
    callbacks: [
      {
        callbackId: callbackId ?? expect.stringMatching(/^body:/),
        type,
        occurredAt: occurredAt === undefined ? expect.any(Date) : new Date(occurredAt),
      },
    ],
  })
})

test('machine detection names its call, although in another field than all else', () => {
  const open = sourceOf(vonage({ urlTokens: 'token' }))!
  for (const body of ['{"uuid":"u1","status":"answered"}', '{"call_uuid":"u1","status":"machine"}']) {
    expect(open.read(requestOf({ body, receivedAt }))).toMatchObject({ callbacks: [{ callId: 'u1' }] })
  }
})

describe.each(schemeNames)('%s', (scheme) => {
  test.each(Object.entries(vonage.provider.schemes[scheme].samples))(
    'the sample %s is accepted, forged or changed it is not',
    (type, sample) => {
      const signing = sourceOf(vonage({ scheme, secrets: smsSecret }))!
      expect(signAndRead(signing, sample)).toMatchObject({
        callbacks: [{ kind: 'genuine', type, occurredAt: receivedAt }],
      })
      expect(signAndRead(signing, sample, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
      const changed = signAndRead(signing, sample, {
        tamper: ({ url, body, ...request }) => ({
          ...request,
          url: url.replace('1555', '1556'),
          body: Buffer.from(body.toString().replace('1555', '1556')),
        }),
      })
      expect(changed).toMatchObject({ reason: scheme === 'jwt' ? 'body_hash_mismatch' : 'signature_mismatch' })
    },
  )
})

describe('the vendor’s library', () => {
  const body = '{"uuid":"u1","status":"answered"}'
  const signed = source.sign({ method: 'POST', url: URL, headers: {}, body: Buffer.from(body) }, { at: receivedAt })
  const token = signed.headers.authorization!.slice('Bearer '.length)

  test('accepts what Ringback signs, and refuses it with one byte changed', () => {
    expect(verifySignature(token, jwtSecret)).toBe(true)
    const at = token.indexOf('.') + 5
    const changed = token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
    expect(verifySignature(changed, jwtSecret)).toBe(false)
    const request = requestOf({ body, headers: { authorization: `Bearer ${changed}` }, receivedAt })
    expect(source.read(request)).toMatchObject({ kind: 'refused' })
  })

  test('signs, by the part of it that makes tokens, what Ringback accepts', () => {
    const { sign } = createRequire(createRequire(import.meta.url).resolve('@vonage/jwt'))('jsonwebtoken') as {
      sign: (claims: object, secret: string) => string
    }
    const hash = source.sign({ method: 'POST', url: URL, headers: {}, body: Buffer.from(body) }, { at: receivedAt })
    const claims = JSON.parse(
      Buffer.from(hash.headers.authorization!.split('.')[1]!, 'base64url').toString(),
    ) as Record<string, unknown>
    const headers = { authorization: `Bearer ${sign(claims, jwtSecret)}` }
    expect(source.read(requestOf({ body, headers, receivedAt }))).toMatchObject({ kind: 'read' })
    expect(source.read(requestOf({ body: `${body} `, headers, receivedAt }))).toMatchObject({
      callbacks: [{ nonces: [claims.jti] }],
    })
    expect(source.read(requestOf({ body: body.replace('u1', 'u2'), headers, receivedAt }))).toMatchObject({
      reason: 'body_hash_mismatch',
    })
  })

  test('makes application tokens by RS256, and those open nothing here, whatever the secret', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const pem = publicKey.export({ type: 'spki', format: 'pem' })
    const headers = {
      authorization: `Bearer ${tokenGenerate('app', privateKey.export({ type: 'pkcs8', format: 'pem' }))}`,
    }
    const confused = sourceOf(vonage({ secrets: pem }))!
    expect(confused.read(requestOf({ body, headers, receivedAt }))).toMatchObject({ reason: 'signature_unreadable' })
  })
})

test('a time limit, where one is set, refuses what is older and what says no time', () => {
  const limited = sourceOf(vonage({ secrets: jwtSecret, toleranceSeconds: 300 }))!
  const readVector = (name: string) => {
    const { authorization, body } = vonageVectors.jwt.find((vector) => vector.name === name)!
    return limited.read(requestOf({ body, headers: { authorization: authorization }, receivedAt }))
  }
  expect(readVector('valid')).toMatchObject({ kind: 'read' })
  expect(readVector('a year old: no limit by default')).toMatchObject({ reason: 'timestamp_out_of_tolerance' })
  expect(readVector('without iat')).toMatchObject({ reason: 'timestamp_out_of_tolerance' })

  const limitedSms = sourceOf(vonage({ scheme: 'sms-hmac-sha256', secrets: smsSecret, toleranceSeconds: 300 }))!
  for (const name of ['a day old: no limit by default', 'an empty value']) {
    const { body } = vonageVectors.sms.find((vector) => vector.name === `sms-hmac-sha256: ${name}`)!
    expect(limitedSms.read(requestOf({ body: body!, receivedAt }))).toMatchObject({
      reason: 'timestamp_out_of_tolerance',
    })
  }
})

test('a token and its body, seen once, open no GET with another query', () => {
  const { authorization, body } = vonageVectors.jwt.find(({ name }) => name === 'valid')!
  const forged = requestOf({
    method: 'GET',
    url: `${URL}?uuid=forged&status=completed`,
    body,
    headers: { authorization },
    receivedAt,
  })
  expect(source.read(forged)).toMatchObject({ kind: 'refused', reason: 'body_hash_mismatch' })
})

test.each([
  ['body changed', 'body'],
  ['payload_hash missing', 'body'],
  ['GET: query changed', 'query'],
])('what a genuine token vouches for instead is shown to operators: %s', (name, what) => {
  const vector = (vonageVectors.jwt as (Vector & { authorization: string })[]).find((one) => one.name === name)!
  const { authorization, query = '', body = '', method = 'POST' } = vector
  const request = requestOf({ method, url: URL + query, body, headers: { Authorization: authorization }, receivedAt })
  const content = what === 'body' ? body : JSON.stringify(Object.fromEntries(new URLSearchParams(query)))
  const { payload_hash: presented = '' } = JSON.parse(
    Buffer.from(authorization.split('.')[1]!, 'base64url').toString(),
  ) as { payload_hash?: string }
  expect(source.explain(request)).toMatchObject([
    { matches: true, hashes: [{ name: 'payload_hash', presented, expected: hashClaim(content) }] },
  ])
})

test('a token whose time is over, or of another secret, is shown to operators with what was signed', () => {
  for (const name of ['exp passed', 'another secret']) {
    const { authorization, body } = vonageVectors.jwt.find((vector) => vector.name === name)!
    const [proof] = source.explain(requestOf({ body, headers: { authorization }, receivedAt }))
    expect(proof!.signedText.toString()).toBe(/Bearer (.*)\./.exec(authorization)![1])
    expect(proof!.matches).toBe(name === 'exp passed')
  }
})

test('the token is kept with the request, so that quarantine can verify it again', () => {
  expect(source.keptHeaders).toContain('authorization')
})
