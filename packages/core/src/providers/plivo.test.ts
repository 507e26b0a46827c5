import { parse } from 'node:querystring'
import { validateSignature, validateV3Signature } from 'plivo'
import { describe, expect, test } from 'vitest'
import { randomForm, seededRandom } from '../../test/support/random.ts'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/plivo.json' with { type: 'json' }
import { plivo } from './plivo.ts'
import type { GenuineCallback, OutgoingRequest, Sample } from './provider.ts'

const token = 'plivo-demo-auth-token'
const { schemes } = plivo.provider
const voice = sourceOf(plivo({ scheme: 'voice', secrets: token }))!
const messaging = sourceOf(plivo({ scheme: 'messaging', secrets: token }))!
const url = 'https://hooks.example.test/callbacks/source'
const at = new Date()

function callback(body: string, source = voice): GenuineCallback {
  const reading = source.read(
    requestOf(source.sign({ method: 'POST', url, headers: {}, body: Buffer.from(body) }, { at })),
  )
  if (reading.kind !== 'read') throw new Error(reading.reason)
  return reading.callbacks[0] as GenuineCallback
}

test.each(vectors)('$name', (vector) => {
  const { scheme, method, secret, url: called, nonce, body, signature, expect: expected } = vector
  const version = scheme === 'voice' ? 'v3' : 'v2'
  const header = 'header' in vector ? vector.header : `X-Plivo-Signature-${version}`
  const headers = {
    ...(signature !== null && { [header]: signature }),
    ...(nonce !== null && { [`X-Plivo-Signature-${version}-Nonce`]: nonce }),
  }
  const source = sourceOf(plivo({ scheme: scheme as 'voice', secrets: secret }))!
  const reading = source.read(requestOf({ method, url: called, body, headers }))
  if (expected.includes('_')) {
    expect(reading).toMatchObject({ kind: 'refused', as: 'forged', reason: expected })
  } else if (body === '' && (method === 'POST' || !called.includes('?'))) {
    // Signed well, and says nothing.
    expect(reading.kind === 'refused' && reading.as).not.toBe('forged')
  } else {
    expect(reading).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine', verifiedBy: expected }] })
    const [found] = (reading as { callbacks: GenuineCallback[] }).callbacks
    expect(found!.nonces).toEqual(scheme === 'messaging' ? [nonce] : undefined)
  }
})

describe.each(Object.keys(schemes) as (keyof typeof schemes)[])('scheme %s', (scheme) => {
  const source = scheme === 'voice' ? voice : messaging
  test.each(Object.entries<Sample>(schemes[scheme].samples))('sample %s', (_name, sample) => {
    expect(signAndRead(source, sample)).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine' }] })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({
      kind: 'refused',
      reason: 'signature_mismatch',
    })
    const tamper = (request: OutgoingRequest) => ({ ...request, url: request.url.replace('source', 'sourcf') })
    expect(signAndRead(source, sample, { tamper })).toMatchObject({ kind: 'refused', reason: 'signature_mismatch' })
  })
})

describe('Plivo’s library agrees', () => {
  const random = seededRandom(20260101)
  const urls = [
    url,
    `${url}?b=2&a=1`,
    `${url}?b=2&b=10&b=1`,
    `${url}?a=%C3%A9+x&%F0%9F%98%80=1`,
    `${url}?`,
    `${url}?a&=1&b=`,
    'https://hooks.example.test',
    'https://hooks.example.test/',
    'https://hooks.example.test:8443/callbacks/source?conn=1',
    'https://user:pass@hooks.example.test/callbacks/source',
  ]
  const pick = () => urls[Math.floor(random() * urls.length)]!

  test('on forms and queries, as they are and with something changed', () => {
    const verdicts = { accepted: 0, refused: 0 }
    for (let round = 0; round < 600; round += 1) {
      const method = round % 3 === 0 ? 'GET' : 'POST'
      const body = method === 'GET' ? '' : randomForm(random)
      const signed = voice.sign({ method, url: pick(), headers: {}, body: Buffer.from(body) }, { at })
      const signature = signed.headers['x-plivo-signature-v3']!
      const nonce = signed.headers['x-plivo-signature-v3-nonce']!
      const changes = [
        { body, called: signed.url, signature },
        { body: method === 'GET' ? '' : randomForm(random), called: signed.url, signature },
        { body, called: pick(), signature },
        { body, called: signed.url, signature: `AAAA,${signature}` },
        { body, called: signed.url, signature: signature.replace(/.=$/, (end) => (end[0] === 'A' ? 'B=' : 'A=')) },
      ]
      const request = changes[round % changes.length]!
      const theirs = validateV3Signature(method, request.called, nonce, token, request.signature, parse(request.body))
      const headers = { 'X-Plivo-Signature-V3': request.signature, 'X-Plivo-Signature-V3-Nonce': nonce }
      const reading = voice.read(requestOf({ method, url: request.called, body: request.body, headers }))
      const accepted = reading.kind === 'read' || reading.as === 'unreadable'
      expect({ ...request, accepted }).toEqual({ ...request, accepted: theirs })
      verdicts[accepted ? 'accepted' : 'refused'] += 1
    }
    expect(verdicts.accepted).toBeGreaterThan(150)
    expect(verdicts.refused).toBeGreaterThan(150)
  })

  test('on V2', () => {
    for (const called of urls) {
      const { headers } = messaging.sign(
        { method: 'POST', url: called, headers: {}, body: Buffer.from('MessageUUID=m1') },
        { at },
      )
      const [signature, nonce] = [headers['x-plivo-signature-v2']!, headers['x-plivo-signature-v2-nonce']!]
      expect(validateSignature(called, nonce, signature, token)).toBe(true)
      expect(validateSignature(called, `${nonce}0`, signature, token)).toBe(false)
      expect(messaging.read(requestOf({ url: called, headers, body: 'MessageUUID=m1' })).kind).toBe('read')
    }
  })
})

describe('a callback is named', () => {
  test.each([
    ['CallUUID=c1&Event=Hangup&CallStatus=completed', 'c1:Hangup'],
    ['CallUUID=c1&Event=StartApp', 'c1:StartApp'],
    ['CallUUID=c1&Event=DialHangup&DialBLegUUID=b1', 'c1:DialHangup:b1'],
    ['CallUUID=c1&Event=RecordStop&RecordingID=r1', 'c1:RecordStop:r1'],
    ['CallUUID=c1&CallStatus=completed', 'c1:completed'],
    ['MessageUUID=m1&Status=delivered&PartInfo=1+of+2', 'm1:delivered:1%20of%202'],
    ['MessageUUID=m1&Type=sms', 'm1'],
  ])('by the fields of %s', (body, name) => {
    expect(callback(body).callbackId).toBe(name)
  })

  test.each([
    'CallUUID=c1&Event=GetInput&Digits=1',
    'CallUUID=c1&CallStatus=in-progress',
    'CallUUID=c1&CallStatus=completed&DialStatus=no-answer&DialRingStatus=true&DialALegUUID=c1&DialBLegUUID=',
    'CallUUID=c1&CallStatus=completed&ConferenceAction=exit&ConferenceUUID=f1&ConferenceMemberID=1',
    'CallUUID=c1&CallStatus=completed&ConferenceName=room&ConferenceUUID=f1&ConferenceMemberID=1',
    'CallUUID=c1&CallStatus=completed&MPCUUID=p1&MPCFriendlyName=room&MemberID=1',
    'CallUUID=c1&Event=DialHangup&DialBLegUUID=',
    'CallUUID=c1&Event=RecordStop',
    'SessionUUID=s1&AttemptUUID=a1&AttemptSequence=1&ChannelStatus=sent&SessionStatus=in-progress',
    'Event=Hangup',
    'x=1',
  ])('by its bytes where fields could come again: %s', (body) => {
    expect(callback(body).callbackId).toMatch(/^body:/)
  })
})

test('type and call are what Plivo says; its times have no zone', () => {
  expect(callback('CallUUID=c1&Event=Hangup&EndTime=2020-01-01+00:00:00')).toMatchObject({
    type: 'Hangup',
    callId: 'c1',
    occurredAt: new Date('2026-01-01T00:00:00Z'),
  })
  expect(callback('MessageUUID=m1&Status=sent', messaging)).toMatchObject({ type: 'sent', verifiedBy: 'url' })
  expect(callback('EventName=ParticipantJoin&MPCUUID=p1&ParticipantCallUUID=c1')).toMatchObject({
    type: 'ParticipantJoin',
    callId: 'c1',
  })
  expect(callback('SessionUUID=s1&ChannelStatus=delivered&SessionStatus=in-progress', messaging).type).toBe('delivered')
})

test('no bytes make it throw', () => {
  const random = seededRandom(7)
  for (let round = 0; round < 500; round += 1) {
    const bytes = Buffer.from(Array.from({ length: Math.floor(random() * 64) }, () => Math.floor(random() * 256)))
    const text = bytes.toString('latin1')
    for (const version of ['v2', 'v3']) {
      const headers = {
        [`X-Plivo-Signature-${version}`]: random() < 0.5 ? text : bytes.toString('base64'),
        [`X-Plivo-Signature-${version}-Nonce`]: random() < 0.5 ? text : '1',
      }
      for (const called of [`${url}?${text}`, text, '', '\ud800?\ud800']) {
        for (const source of [voice, messaging]) {
          expect(source.read(requestOf({ url: called, headers, body: bytes })).kind).toBe('refused')
        }
      }
    }
  }
})
