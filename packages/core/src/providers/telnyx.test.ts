import { TelnyxWebhook } from 'telnyx/lib/webhooks'
import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import telnyxVectors from '../../test/vectors/telnyx.json' with { type: 'json' }
import { telnyx } from './telnyx.ts'

const { publicKey, privateKey, vectors } = telnyxVectors
const source = sourceOf(telnyx({ secrets: publicKey }))!
const receivedAt = new Date(telnyxVectors.receivedAt * 1000)

describe('requests and what is made of them', () => {
  test.each(vectors)('$name', ({ headers, body, expect: expected }) => {
    const reading = source.read(requestOf({ headers: headers, body, receivedAt }))
    if ('refused' in expected) expect(reading).toMatchObject({ kind: 'refused', reason: expected.refused })
    else if ('unreadable' in expected) {
      expect(reading).toMatchObject({ callbacks: [{ kind: 'unreadable', reason: expected.unreadable }] })
    } else expect(reading).toMatchObject({ callbacks: [{ kind: 'genuine', verifiedBy: 'body', ...expected }] })
  })
})

test.each(Object.entries(telnyx.provider.schemes.signed.samples))(
  'the sample %s is accepted, forged it is not',
  (type, sample) => {
    expect(signAndRead(source, sample, { secret: privateKey })).toMatchObject({
      callbacks: [{ kind: 'genuine', type, secret: 1, callbackId: expect.any(String), occurredAt: receivedAt }],
    })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
  },
)

test('a TeXML callback is a form with the fields of Twilio', () => {
  const body = Buffer.from('AccountSid=AC1&CallSid=v3%3Ac1&CallStatus=completed&SequenceNumber=2')
  const at = receivedAt
  const signed = source.sign({ method: 'POST', url: '', headers: {}, body }, { at, secret: privateKey })
  expect(source.read(requestOf({ ...signed, receivedAt: at }))).toMatchObject({
    callbacks: [
      { kind: 'genuine', verifiedBy: 'body', type: 'completed', callId: 'v3:c1', callbackId: 'v3%3Ac1:completed:2' },
    ],
  })
  const withoutAccount = Buffer.from('CallSid=v3%3Ac1&CallStatus=completed')
  const call = source.sign({ method: 'POST', url: '', headers: {}, body: withoutAccount }, { at, secret: privateKey })
  expect(source.read(requestOf({ ...call, receivedAt: at }))).toMatchObject({
    callbacks: [{ kind: 'genuine', type: 'completed', callId: 'v3:c1', callbackId: 'v3%3Ac1:completed' }],
  })
  const other = source.sign(
    { method: 'POST', url: '', headers: {}, body: Buffer.from('a=b') },
    { at, secret: privateKey },
  )
  expect(source.read(requestOf({ ...other, receivedAt: at }))).toMatchObject({ reason: 'unreadable_body' })
})

test.each([
  ['2021-04-28 21:51:18.731479Z', '2021-04-28T21:51:18.731Z'],
  ['2024-01-15T10:30:00Z', '2024-01-15T10:30:00.000Z'],
  ['2021-04-28 21:51:18.731479', receivedAt.toISOString()],
])('a TeXML callback occurred when it says, if it says the zone: %s', (timestamp, occurredAt) => {
  const fields = { AccountSid: 'AC1', CallSid: 'v3:c1', CallStatus: 'completed', Timestamp: timestamp }
  const body = Buffer.from(new URLSearchParams(fields).toString())
  const signed = source.sign({ method: 'POST', url: '', headers: {}, body }, { at: receivedAt, secret: privateKey })
  expect(source.read(requestOf({ ...signed, receivedAt }))).toMatchObject({
    callbacks: [{ kind: 'genuine', occurredAt: new Date(occurredAt) }],
  })
})

test('what Ringback signs, the vendor’s library accepts, and one byte changed neither does', async () => {
  const library = new TelnyxWebhook(publicKey)
  const at = new Date()
  const body = Buffer.from('{"data":{"id":"e1","event_type":"message.sent","text":"é"}}')
  const signed = source.sign({ method: 'POST', url: '', headers: {}, body }, { at, secret: privateKey })
  await library.verify(body.toString(), signed.headers)
  expect(source.read(requestOf({ ...signed, receivedAt: at }))).toMatchObject({ kind: 'read' })

  const changed = body.toString().replace('e1', 'e2')
  await expect(library.verify(changed, signed.headers)).rejects.toThrow('does not match')
  expect(source.read(requestOf({ ...signed, body: changed, receivedAt: at }))).toMatchObject({
    reason: 'signature_mismatch',
  })
})

test('the key is of the account: either of two verifies, and it says which', () => {
  const other = Buffer.alloc(32, 1).toString('base64')
  const rotating = sourceOf(telnyx({ secrets: [other, publicKey] }))!
  const [sample] = Object.values(telnyx.provider.schemes.signed.samples)
  expect(signAndRead(rotating, sample!, { secret: privateKey })).toMatchObject({ callbacks: [{ secret: 2 }] })
})

test.each([
  'x',
  'not base64!',
  Buffer.alloc(31).toString('base64'),
  Buffer.alloc(33).toString('base64'),
  `${publicKey}\n`,
])('the configuration names no value where %j is given as the key', (secret) => {
  if (secret === '') return expect(sourceOf(telnyx({ secrets: secret }))).toBeUndefined()
  expect(() => sourceOf(telnyx({ secrets: secret }))).toThrow('secret 1: an Ed25519 public key is base64 of 32 bytes')
})

test('a call’s events name their call', () => {
  const call = telnyx.provider.schemes.signed.samples['call.hangup']!
  expect(signAndRead(source, call, { secret: privateKey })).toMatchObject({
    callbacks: [{ callId: expect.any(String) }],
  })
})
