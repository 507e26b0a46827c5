import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import birdVectors from '../../test/vectors/bird.json' with { type: 'json' }
import { bird } from './bird.ts'

const { signingKey, vectors } = birdVectors
const source = sourceOf(bird({ secrets: signingKey }))!
const receivedAt = new Date(birdVectors.receivedAt * 1000)

describe('requests and what is made of them', () => {
  test.each(vectors)('$name', ({ url, headers, body, expect: expected }) => {
    const reading = source.read(requestOf({ url, headers: headers, body, receivedAt }))
    if ('refused' in expected) return expect(reading).toMatchObject({ kind: 'refused', reason: expected.refused })
    const { occurredAt, ...callback } = expected as { occurredAt?: string }
    expect(reading).toMatchObject({
      callbacks: [
        {
          kind: 'genuine',
          verifiedBy: 'body',
          ...callback,
          ...(occurredAt !== undefined && { occurredAt: new Date(Number(occurredAt) * 1000) }),
        },
      ],
    })
  })
})

test.each(Object.entries(bird.provider.schemes.signed.samples))(
  'the sample %s is accepted, forged it is not',
  (type, sample) => {
    expect(signAndRead(source, sample)).toMatchObject({ callbacks: [{ kind: 'genuine', type }] })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
  },
)

test('a message is named by its status, what else changes by its content', () => {
  const unsigned = sourceOf(bird({ urlTokens: 'token' }))!
  const nameOf = (event: string, payload: object) => {
    const reading = unsigned.read(requestOf({ body: JSON.stringify({ service: 'channels', event, payload }) }))
    return reading.kind === 'read' ? reading.callbacks[0]!.callbackId : reading.reason
  }
  expect(nameOf('sms.outbound', { id: '1', status: 'sent', updatedAt: 'a' })).toBe('1:sms.outbound:sent')
  const update = (count: number) => nameOf('conversation.updated', { id: '1', status: 'active', count })
  expect(update(2)).not.toBe(update(3))
  expect(update(2)).toBe(update(2))
})

test('another URL than the one called is refused, and so is another byte', () => {
  const [sample] = Object.values(bird.provider.schemes.signed.samples)
  const elsewhere = signAndRead(source, sample!, { tamper: (request) => ({ ...request, url: `${request.url}/` }) })
  expect(elsewhere).toMatchObject({ reason: 'signature_mismatch' })
  const changed = signAndRead(source, sample!, {
    tamper: (request) => ({ ...request, body: Buffer.from(request.body.toString().replace('sms', 'mms')) }),
  })
  expect(changed).toMatchObject({ reason: 'signature_mismatch' })
})

test('an age is refused only where one is configured', () => {
  const limited = sourceOf(bird({ secrets: signingKey, toleranceSeconds: 300 }))!
  const late = vectors.find(({ name }) => name === 'retry-3h-old')!
  const request = requestOf({ ...late, headers: late.headers, receivedAt })
  expect(limited.read(request)).toMatchObject({ reason: 'timestamp_out_of_tolerance' })
})

test('a source needs to know its public URL', () => {
  expect(source.needsUrl).toBe(true)
  expect(() => sourceOf(bird({ secrets: signingKey }), {})).toThrow('PUBLIC_BASE_URL')
})
