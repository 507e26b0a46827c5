import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/signalwire.json' with { type: 'json' }
import type { GenuineCallback, Sample } from './provider.ts'
import { signalwire } from './signalwire.ts'

const secrets = 'sw-demo-key'
const { schemes } = signalwire.provider
const json = sourceOf(signalwire({ scheme: 'json', secrets }))!

function jsonCallback(body: string): GenuineCallback {
  const url = 'https://hooks.example.test/callbacks/source'
  const request = json.sign({ method: 'POST', url, headers: {}, body: Buffer.from(body) }, { at: new Date() })
  const reading = json.read(requestOf(request))
  if (reading.kind !== 'read') throw new Error(reading.reason)
  return reading.callbacks[0] as GenuineCallback
}

test.each(vectors)('$name', ({ scheme, secret, url, body, signature, expect: expected }) => {
  const source = sourceOf(signalwire({ scheme: scheme as 'json', secrets: secret }))!
  const headers = signature === null ? undefined : { 'X-SignalWire-Signature': signature }
  const reading = source.read(requestOf({ url, body, ...(headers && { headers }) }))
  if (expected.includes('_')) expect(reading).toMatchObject({ kind: 'refused', as: 'forged', reason: expected })
  else expect(reading).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine', verifiedBy: expected }] })
})

describe.each(Object.keys(schemes) as (keyof typeof schemes)[])('scheme %s', (scheme) => {
  const source = sourceOf(signalwire({ scheme, secrets }))!
  test.each(Object.entries<Sample>(schemes[scheme].samples))('sample %s', (_name, sample) => {
    expect(signAndRead(source, sample)).toMatchObject({
      kind: 'read',
      callbacks: [{ kind: 'genuine', verifiedBy: 'body' }],
    })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({
      kind: 'refused',
      reason: 'signature_mismatch',
    })
    const tamper = (request: { body: Buffer }) =>
      ({ ...request, body: Buffer.concat([request.body, Buffer.from('0')]) }) as never
    expect(signAndRead(source, sample, { tamper })).toMatchObject({ kind: 'refused', as: 'forged' })
  })
})

test('JSON says what happened to which call or message', () => {
  const call =
    '{"event_type":"calling.call.state","timestamp":1767225600.5,"params":{"call_id":"c1","call_state":"ended"}}'
  expect(jsonCallback(call)).toMatchObject({
    callbackId: 'c1:calling.call.state:ended',
    type: 'calling.call.state',
    callId: 'c1',
    occurredAt: new Date(1767225600500),
  })
  const message = '{"event_type":"messaging.state","params":{"message_id":"m1","message_state":"sent"}}'
  expect(jsonCallback(message)).toMatchObject({ callbackId: 'm1:messaging.state:sent', type: 'messaging.state' })
})

test('what is told of a message, a registration or an AI agent without an event has a type and a time as well', () => {
  const status = (of: string) =>
    jsonCallback(`{"id":"m1","project_id":"p1","status":"${of}","body":"Hi","timestamp":"2026-01-01T00:00:01Z"}`)
  expect(status('delivered')).toMatchObject({ type: 'delivered', occurredAt: new Date('2026-01-01T00:00:01Z') })
  expect(status('sent').callbackId).not.toBe(status('delivered').callbackId)
  const registration = '{"event_type":"brand_activated","event_at":"2026-01-01T00:00:02Z","brand_id":"b1"}'
  expect(jsonCallback(registration)).toMatchObject({
    type: 'brand_activated',
    occurredAt: new Date('2026-01-01T00:00:02Z'),
  })
  expect(jsonCallback('{"action":"post_conversation","call_id":"c1"}')).toMatchObject({
    type: 'post_conversation',
    callId: 'c1',
  })
})

test.each([
  '{}',
  '{"event":"calling.call.play","params":{"call_id":"c1","call_state":"playing"}}',
  '{"event_type":null,"params":[],"timestamp":"x"}',
  '{"params":{"call_id":["c1"],"call_state":"ended"},"timestamp":-1}',
])('what JSON does not name is named by its bytes: %s', (body) => {
  expect(jsonCallback(body).callbackId).toMatch(/^body:/)
})

test.each(['[]', '["a"]', '{"a":', ''])('what is no object is unreadable, though signed: %s', (body) => {
  expect(() => jsonCallback(body)).toThrow('unreadable_body')
})
