import { hash } from 'node:crypto'
import { parse } from 'node:querystring'
import webhooks from 'twilio/lib/webhooks/webhooks.js'
import { describe, expect, test } from 'vitest'
import { randomForm, seededRandom } from '../../test/support/random.ts'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/twilio.json' with { type: 'json' }
import type { GenuineCallback, Sample } from './provider.ts'
import { spellingsOf, twilio } from './twilio.ts'

const { getExpectedTwilioSignature, validateRequest, validateRequestWithBody } = webhooks
const authToken = 'twilio-demo-auth-token'
const url = 'https://hooks.example.test/callbacks/source'
const source = sourceOf(twilio({ secrets: authToken }))!
const samples: [string, Sample][] = Object.entries(twilio.provider.schemes.webhook.samples)

function read(body: string, { headers = {}, to = url }: { headers?: Record<string, string>; to?: string } = {}) {
  const isForm = !body.startsWith('{') && !body.startsWith('[')
  const { url: signedUrl, headers: signed } = source.sign(
    {
      method: 'POST',
      url: to,
      headers: { 'content-type': isForm ? 'application/x-www-form-urlencoded' : 'application/json', ...headers },
      body: Buffer.from(body),
    },
    { at: new Date() },
  )
  return source.read(requestOf({ url: signedUrl, headers: signed, body }))
}

function callback(body: string, headers?: Record<string, string>): GenuineCallback {
  const reading = read(body, { ...(headers && { headers }) })
  if (reading.kind !== 'read') throw new Error(reading.reason)
  return reading.callbacks[0] as GenuineCallback
}

test.each(vectors)('$name', ({ method, secret, url: called, body, signature, expect: expected }) => {
  const headers = signature === null ? undefined : { 'X-Twilio-Signature': signature }
  const request = requestOf({ method, url: called, body, ...(headers && { headers }) })
  const reading = sourceOf(twilio({ secrets: secret }))!.read(request)
  if (expected.includes('_')) expect(reading).toMatchObject({ kind: 'refused', as: 'forged', reason: expected })
  // An empty body is signed well and says nothing.
  else if (body === '' && method === 'POST')
    expect(reading).toMatchObject({ as: 'unreadable', reason: 'unreadable_body' })
  else if (body === '[]') expect(reading).toEqual({ kind: 'read', callbacks: [] })
  else expect(reading).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine', verifiedBy: expected }] })
})

describe.each(samples)('sample %s', (_name, sample) => {
  test('is accepted as it is signed, and refused as it is forged', () => {
    expect(signAndRead(source, sample)).toMatchObject({
      kind: 'read',
      callbacks: [{ kind: 'genuine', secret: 1, verifiedBy: 'body' }],
    })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ kind: 'refused', as: 'forged' })
    const tamper = (request: { body: Buffer }) => {
      const body = Buffer.from(request.body)
      body[body.length - 2]! ^= 1
      return { ...request, body } as never
    }
    expect(signAndRead(source, sample, { tamper })).toMatchObject({ kind: 'refused', as: 'forged' })
  })
})

describe('Twilio’s library agrees', () => {
  const random = seededRandom(20260101)
  const urls = [
    url,
    `${url}?conn=1`,
    `${url}?q=it's&x=%20`,
    `${url}?`,
    `${url}?a=1&a=2&b`,
    'http://hooks.example.test:80/callbacks/source?b=2&a=1',
    'https://hooks.example.test:8443/callbacks/source',
    'https://user:pass@hooks.example.test/callbacks/source',
    'https://[2001:db8::1]/callbacks/source',
    'https://[2001:db8::1]:8443/callbacks/source',
    'HTTPS://Hooks.Example.Test/callbacks/source',
  ]
  const pick = () => urls[Math.floor(random() * urls.length)]!

  test('on forms that it signed, as they are and with something changed', () => {
    const verdicts = { accepted: 0, refused: 0 }
    for (let round = 0; round < 600; round += 1) {
      const body = randomForm(random)
      const signed = pick()
      const spellings = spellingsOf(signed)
      const spelling = spellings[Math.floor(random() * spellings.length)]!
      const signature = getExpectedTwilioSignature(authToken, spelling, parse(body))
      const changes = [
        { body, signature, called: signed },
        { body: randomForm(random), signature, called: signed },
        { body: `${body}&${body}`, signature, called: signed },
        { body: body.replace(/\d/, '7'), signature, called: signed },
        { body, signature: signature.replace(/^./, (digit) => (digit === 'A' ? 'B' : 'A')), called: signed },
        { body, signature: signature.replace(/.=$/, (end) => (end[0] === 'A' ? 'B=' : 'A=')), called: signed },
        { body, signature, called: pick() },
      ]
      const request = changes[round % changes.length]!
      const theirs = validateRequest(authToken, request.signature, request.called, parse(request.body))
      const { kind } = source.read(
        requestOf({ url: request.called, body: request.body, headers: { 'X-Twilio-Signature': request.signature } }),
      )
      expect({ ...request, accepted: kind === 'read' }).toEqual({ ...request, accepted: theirs })
      verdicts[theirs ? 'accepted' : 'refused'] += 1
    }
    expect(verdicts.accepted).toBeGreaterThan(150)
    expect(verdicts.refused).toBeGreaterThan(150)
  })

  test('on what is signed here', () => {
    for (let round = 0; round < 200; round += 1) {
      const body = randomForm(random)
      const request = source.sign(
        {
          method: 'POST',
          url: pick(),
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: Buffer.from(body),
        },
        { at: new Date() },
      )
      expect(validateRequest(authToken, request.headers['x-twilio-signature']!, request.url, parse(body))).toBe(true)
    }
  })

  test('on JSON', () => {
    const json = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: Buffer.from('{"a":"é"}'),
    } as const
    const { url: called, headers } = source.sign({ ...json, url: `${url}?conn=1` }, { at: new Date() })
    const signature = headers['x-twilio-signature']!
    expect(validateRequestWithBody(authToken, signature, called, '{"a":"é"}')).toBe(true)
    expect(validateRequestWithBody(authToken, signature, called, '{"a":"e"}')).toBe(false)
    expect(source.read(requestOf({ url: called, headers, body: json.body }))).toMatchObject({ kind: 'read' })
    expect(source.read(requestOf({ url: called, headers, body: '{"a":"e"}' }))).toMatchObject({
      reason: 'body_hash_mismatch',
    })
  })
})

test('of a genuine signature on another body, operators are told both hashes; of a forged one, that it is none', () => {
  const json = { method: 'POST', headers: {}, body: Buffer.from('{"a":1}') } as const
  const { url: called, headers } = source.sign({ ...json, url }, { at: new Date() })
  const presented = new URL(called).searchParams.get('bodySHA256')
  const changed = requestOf({ url: called, headers, body: '{"a":2}' })
  const expected = hash('sha256', '{"a":2}')
  expect(source.explain(changed)).toContainEqual(
    expect.objectContaining({ matches: true, hashes: [{ name: 'bodySHA256', presented, expected }] }),
  )
  const unhashed = source.explain(requestOf({ url, headers, body: '{"a":2}' }))
  expect(unhashed[0]).toMatchObject({ matches: false, hashes: [{ name: 'bodySHA256', presented: '', expected }] })
  expect(sourceOf(twilio({ secrets: 'another' }))!.read(changed)).toMatchObject({ reason: 'signature_mismatch' })
})

describe('a callback is named', () => {
  test('by the idempotency token, whatever else it says', () => {
    const token = '11111111-0000-4000-8000-0000000000f1'
    expect(callback('CallSid=CA1&CallStatus=in-progress', { 'i-twilio-idempotency-token': token }).callbackId).toBe(
      token,
    )
  })

  test.each([
    ['MessageSid=SM1&MessageStatus=sent&SmsStatus=sent', 'SM1:sent'],
    ['SmsSid=SM1&SmsStatus=received', 'SM1:received'],
    ['CallSid=CA1&CallStatus=completed', 'CA1:completed'],
    ['CallSid=CA1&CallStatus=ringing&SequenceNumber=1', 'CA1:ringing:1'],
    ['RecordingSid=RE1&RecordingStatus=completed&CallSid=CA1', 'RE1:completed'],
    [
      'ConferenceSid=CF1&StatusCallbackEvent=participant-join&SequenceNumber=2&CallSid=CA1',
      'CF1:participant-join:CA1:2',
    ],
    [
      'ConferenceSid=CF1&StatusCallbackEvent=participant-join&SequenceNumber=2&CallSid=CA2',
      'CF1:participant-join:CA2:2',
    ],
    ['ConferenceSid=CF1&StatusCallbackEvent=conference-end&SequenceNumber=9', 'CF1:conference-end:9'],
    ['TranscriptionSid=GT1&TranscriptionEvent=transcription-content&SequenceId=2', 'GT1:transcription-content:2'],
    ['TranscriptionSid=TR1&TranscriptionStatus=completed&CallSid=CA1&CallStatus=completed', 'TR1:completed'],
    [
      'StreamSid=MZ1&StreamEvent=stream-error&Timestamp=2026-01-01T00:00:01Z',
      'MZ1:stream-error:2026-01-01T00%3A00%3A01Z',
    ],
    [
      'StreamSid=MZ1&StreamEvent=stream-error&Timestamp=2026-01-01T00:00:02Z',
      'MZ1:stream-error:2026-01-01T00%3A00%3A02Z',
    ],
    ['Sid=NO1&Level=ERROR&PayloadType=application%2Fjson&Payload=%7B%7D', 'NO1'],
  ])('by the fields of %s', (body, name) => {
    expect(callback(body)).toMatchObject({ callbackId: name })
    expect(callback(body)).not.toHaveProperty('previousName')
  })

  test.each([
    'CallSid=CA1&CallStatus=in-progress&Digits=1',
    'CallSid=CA1&CallStatus=completed&DialCallSid=CA2&DialCallStatus=busy',
    'CallSid=CA1&CallStatus=completed&DialCallStatus=answered',
    'CallSid=CA1&CallStatus=completed&RecordingUrl=https%3A%2F%2Fapi.example%2F1&RecordingDuration=3&Digits=hangup',
    'CallSid=CA1&CallStatus=completed&ReferCallStatus=canceled&ReferSipResponseCode=202',
    'CallSid=CA1&CallStatus=completed&ReferSipResponseCode=404',
    'CallSid=CA1&CallStatus=completed&VirtualAgentStatus=failed&VirtualAgentProvider=Dialogflow',
    'CallSid=CA1&CallStatus=completed&SessionId=VX1&SessionStatus=ended',
    'CallSid=CA1&CallStatus=completed&Result=success',
    'CallSid=CA1&CallStatus=completed&QueueSid=1',
    'CallSid=CA1&CallStatus=completed&StreamSid=1',
    'CallSid=CA1&CallStatus=completed&PaymentSid=1',
    'CallSid=CA1&CallStatus=completed&Digit=1',
    'CallSid=CA1&CallStatus=completed&Digits=1',
    'CallSid=CA1&CallStatus=completed&SpeechResult=hello&Confidence=0.9',
    'CallSid=CA1&CallStatus=in-progress&SequenceNumber=0&StableSpeechResult=&UnstableSpeechResult=hello&Stability=0.5',
    'CallSid=CA1&CallStatus=in-progress&SequenceNumber=1&StableSpeechResult=Hello&UnstableSpeechResult=&Stability=0.9',
    'ConferenceSid=CF1&StatusCallbackEvent=participant-mute',
    'TranscriptionSid=GT1&TranscriptionEvent=transcription-content',
    'MessageSid=SM1',
    'MessageSid=&CallSid=&CallStatus=completed',
    'Unheard=of',
    '{"a":1}',
  ])('by its bytes where fields could come again: %s', (body) => {
    expect(callback(body).callbackId).toMatch(/^body:/)
  })
})

test('a form that begins with "?" has that in the name of its first field, as Twilio signs it', () => {
  const signature = getExpectedTwilioSignature(authToken, url, { '?A': '1', MessageSid: 'SM1' })
  const request = requestOf({ url, body: '?A=1&MessageSid=SM1', headers: { 'X-Twilio-Signature': signature } })
  expect(source.read(request)).toMatchObject({ callbacks: [{ kind: 'genuine', verifiedBy: 'body' }] })
})

test('type, call and time are what Twilio says', () => {
  const body = 'CallSid=CA1&CallStatus=completed&SequenceNumber=3&Timestamp=Mon%2C+15+Aug+2005+15%3A52%3A01+%2B0000'
  expect(callback(body)).toMatchObject({
    type: 'completed',
    callId: 'CA1',
    occurredAt: new Date('2005-08-15T15:52:01Z'),
  })
  expect(callback('MessageSid=SM1&SmsStatus=received').type).toBe('received')
  expect(callback('ConferenceSid=C&StatusCallbackEvent=conference-end&CallSid=CA1').type).toBe('conference-end')
  expect(callback('CallSid=CA1&SiprecSid=SR1&SiprecEvent=siprec-started')).toMatchObject({
    type: 'siprec-started',
    callId: 'CA1',
  })
  expect(callback('{"event_type":"voice_intelligence_transcript_available","transcript_sid":"GT1"}').type).toBe(
    'voice_intelligence_transcript_available',
  )
  expect(
    callback('Sid=NO1&Level=WARNING&Timestamp=2026-02-03T04:05:06Z&PayloadType=application%2Fjson&Payload=%7B%7D'),
  ).toMatchObject({ type: 'debugger.warning', occurredAt: new Date('2026-02-03T04:05:06Z') })
  for (const time of [
    'tomorrow',
    'Mon, 30 Feb 2026 15:52:01 +0000',
    'Mon, 02 Feb 2026 24:00:00 GMT',
    '1 Foo 2026 00:00:00 UTC',
  ]) {
    expect(callback(`CallSid=CA1&${new URLSearchParams({ Timestamp: time }).toString()}`).occurredAt).toEqual(
      new Date('2026-01-01T00:00:00Z'),
    )
  }
})

test('each event of Event Streams is a callback of its own, and others do not suffer from a bad one', () => {
  const reading = read('[{"specversion":"1.0","id":"EZ1","type":"t","time":"2026-01-01T00:00:01Z"}, null, {"id":7}]')
  expect(reading).toMatchObject({
    kind: 'read',
    callbacks: [
      { kind: 'genuine', callbackId: 'EZ1', type: 't', occurredAt: new Date('2026-01-01T00:00:01Z') },
      { kind: 'unreadable', reason: 'unreadable_body' },
      { kind: 'genuine', raw: Buffer.from('{"id":7}') },
    ],
  })
})

test('any of several tokens verifies, and the account is the one that the token belongs to', () => {
  const rotating = sourceOf(twilio({ secrets: ['new', authToken] }))!
  const [, sample] = samples[0]!
  expect(signAndRead(rotating, sample, { secret: authToken })).toMatchObject({ callbacks: [{ secret: 2 }] })
  const several = sourceOf(
    twilio({
      accounts: [
        { accountId: 'AC1', secrets: 'one' },
        { accountId: 'AC2', secrets: authToken },
      ],
    }),
  )!
  expect(signAndRead(several, sample, { secret: authToken })).toMatchObject({ callbacks: [{ accountId: 'AC2' }] })
})

test('no bytes make it throw', () => {
  const random = seededRandom(7)
  for (let round = 0; round < 500; round += 1) {
    const bytes = Buffer.from(Array.from({ length: Math.floor(random() * 64) }, () => Math.floor(random() * 256)))
    const text = bytes.toString('latin1')
    const headers = { 'X-Twilio-Signature': random() < 0.5 ? text : bytes.toString('base64') }
    for (const method of ['GET', 'POST']) {
      for (const called of [`${url}?${text}`, `/${text}`, text, '', '\ud800?\ud800']) {
        expect(source.read(requestOf({ method, url: called, headers, body: bytes })).kind).toBe('refused')
      }
    }
  }
})
