import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import standardVectors from '../../test/vectors/standard-webhooks.json' with { type: 'json' }
import { standardWebhooks } from './standard-webhooks.ts'

const { privateKey } = standardVectors
const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='
const publicKey = standardVectors.vectors.find(({ name }) => name === 'ed25519')!.secret
const source = sourceOf(standardWebhooks({ secrets: secret }))!
const asymmetric = sourceOf(standardWebhooks({ secrets: publicKey }))!
const receivedAt = new Date(standardVectors.receivedAt * 1000)
const [sample] = Object.values(standardWebhooks.provider.schemes.signed.samples)

interface Vector {
  name: string
  secret: string
  receivedAt?: number
  headers: Record<string, string>
  body: string
  expect: Record<string, string>
}

describe('requests and what is made of them', () => {
  test.each(standardVectors.vectors as unknown as Vector[])('$name', (vector) => {
    const at = vector.receivedAt === undefined ? receivedAt : new Date(vector.receivedAt * 1000)
    const configured = sourceOf(standardWebhooks({ secrets: vector.secret }))!
    const request = requestOf({ headers: vector.headers, body: vector.body, receivedAt: at })
    const reading = configured.read(request)
    if ('refused' in vector.expect) expect(reading).toMatchObject({ kind: 'refused', reason: vector.expect.refused })
    else {
      expect(reading).toMatchObject({ callbacks: [{ kind: 'genuine', verifiedBy: 'body', ...vector.expect }] })
      expect(configured.explain(request).some(({ matches }) => matches)).toBe(true)
    }
  })
})

test('the vendor-neutral library signs and Ringback accepts; one byte changed and it refuses', () => {
  const library = new Webhook(secret)
  const body = '{"type":"call.completed","data":{"text":"é"}}'
  const headers = {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(standardVectors.receivedAt),
    'webhook-signature': library.sign('msg_1', receivedAt, body),
  }
  expect(source.read(requestOf({ headers, body, receivedAt }))).toMatchObject({ callbacks: [{ callbackId: 'msg_1' }] })
  expect(source.read(requestOf({ headers, body: body.replace('é', 'e'), receivedAt }))).toMatchObject({
    reason: 'signature_mismatch',
  })
})

test('what Ringback signs, the library accepts', () => {
  const at = new Date()
  const body = Buffer.from('{"type":"x"}')
  const request = { method: 'POST' as const, url: '', headers: { 'webhook-id': 'msg_1' }, body }
  const { headers } = source.sign(request, { at })
  expect(new Webhook(secret).verify(body, headers)).toEqual({ type: 'x' })
})

describe('playing the sender', () => {
  test('with a shared secret', () => {
    expect(signAndRead(source, sample!)).toMatchObject({
      callbacks: [{ kind: 'genuine', type: 'contact.created', occurredAt: receivedAt }],
    })
    expect(signAndRead(source, sample!, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
  })

  test.each([
    ['with its prefix', privateKey],
    ['without it', privateKey.slice('whsk_'.length)],
    [
      'with the public key behind it',
      `whsk_${Buffer.concat([privateKey.slice(5), publicKey.slice(5)].map((text) => Buffer.from(text, 'base64'))).toString('base64')}`,
    ],
  ])('with a private key %s', (_spelling, key) => {
    expect(signAndRead(asymmetric, sample!, { secret: key })).toMatchObject({ callbacks: [{ kind: 'genuine' }] })
  })

  test('forgeries of a source with a public key', () => {
    expect(signAndRead(asymmetric, sample!, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
  })

  test('a public key signs nothing, and it is said', () => {
    expect(() => signAndRead(asymmetric, sample!)).toThrow('a public key signs nothing')
  })

  test('by the header names of Svix', () => {
    const svix = { ...sample!, headers: { 'svix-id': 'msg_2' } }
    expect(signAndRead(source, svix)).toMatchObject({ callbacks: [{ callbackId: 'msg_2' }] })
  })
})

test('secrets and public keys stand side by side while a sender changes from one to the other', () => {
  for (const secrets of [
    [secret, publicKey],
    [publicKey, secret],
  ]) {
    const both = sourceOf(standardWebhooks({ secrets }))!
    expect(signAndRead(both, sample!, { secret })).toMatchObject({
      callbacks: [{ secret: secrets.indexOf(secret) + 1 }],
    })
    expect(signAndRead(both, sample!, { secret: privateKey })).toMatchObject({
      callbacks: [{ secret: secrets.indexOf(publicKey) + 1 }],
    })
  }
})

test.each([
  ['whsec_', 'it must be base64'],
  ['whsec_###', 'it must be base64'],
  ['plain text', 'it must be base64'],
  [privateKey, 'give the public one'],
  ['whpk_AAAA', 'an Ed25519 public key is base64 of 32 bytes'],
])('%s is no secret, and the message repeats none', (value, message) => {
  expect(() => sourceOf(standardWebhooks({ secrets: value }))).toThrow(message)
  expect(() => sourceOf(standardWebhooks({ secrets: value }))).not.toThrow(value.length > 10 ? value : '###')
})

test('a signature without an id is no unsigned request', () => {
  const lenient = sourceOf(standardWebhooks({ secrets: secret, bearerTokens: 'token', allowUnsigned: true }))!
  const headers = { authorization: 'Bearer token', 'webhook-signature': 'v1,AAAA', 'svix-id': 'msg_1' }
  expect(lenient.read(requestOf({ headers, body: '{}', receivedAt }))).toMatchObject({ reason: 'callback_id_missing' })
})
