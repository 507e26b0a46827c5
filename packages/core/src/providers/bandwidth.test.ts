import { expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import { bandwidth } from './bandwidth.ts'

const basicAuth = { username: 'ringback', password: 'pass:word' }
const source = sourceOf(bandwidth({ basicAuth }))!
const open = sourceOf(bandwidth({ urlTokens: 'token' }))!
const read = (body: string) => open.read(requestOf({ body }))

const item = (fields: Record<string, unknown> = {}) => ({
  type: 'message-delivered',
  time: '2026-01-01T00:00:00.000Z',
  to: '+15550100002',
  message: { id: 'm1' },
  ...fields,
})

test('every element of the array is a callback of its own, with its own bytes', () => {
  const body = `[ ${JSON.stringify(item())},\n{"type":"message-failed", "time":"x", "to":"1", "message":{"id":9007199254740993}} ]`
  expect(read(body)).toMatchObject({
    callbacks: [
      {
        kind: 'genuine',
        callbackId: 'message-delivered:m1:%2B15550100002:2026-01-01T00%3A00%3A00.000Z',
        type: 'message-delivered',
        occurredAt: new Date('2026-01-01T00:00:00Z'),
        verifiedBy: 'secret',
        raw: Buffer.from(JSON.stringify(item())),
      },
      { kind: 'genuine', callbackId: 'message-failed:9007199254740993:1:x' },
    ],
  })
})

test('a voice callback is one object', () => {
  const body = JSON.stringify({ eventType: 'disconnect', callId: 'c1', eventTime: '2026-01-01T00:00:00Z' })
  expect(read(body)).toMatchObject({
    callbacks: [{ callbackId: 'disconnect:c1:2026-01-01T00%3A00%3A00Z', type: 'disconnect', callId: 'c1' }],
  })
})

test('streams, transcriptions and recordings of a call that end in one moment are several', () => {
  const eventTime = '2022-06-30T18:55:02.489Z'
  const idOf = (eventType: string, part: Record<string, unknown>) => {
    const reading = read(JSON.stringify({ eventType, callId: 'c1', eventTime, ...part }))
    return reading.kind === 'read' ? reading.callbacks[0]!.callbackId : reading.reason
  }
  expect(idOf('mediaStreamStopped', { mediaStream: { id: 's-1', name: 'example' } })).toBe(
    'mediaStreamStopped:c1:2022-06-30T18%3A55%3A02.489Z:s-1',
  )
  const parts: [string, (id: string) => Record<string, unknown>][] = [
    ['mediaStreamStopped', (id) => ({ mediaStream: { id, name: 'example' } })],
    ['realTimeTranscriptionStopped', (id) => ({ transcription: { id } })],
    ['realTimeTranscriptionAvailable', (id) => ({ realTimeTranscription: { id } })],
    ['recordingAvailable', (id) => ({ recordingId: id })],
  ]
  for (const [type, part] of parts) {
    expect(idOf(type, part('1'))).not.toBe(idOf(type, part('2')))
    expect(idOf(type, part('1'))).toBe(idOf(type, part('1')))
  }
})

test('a message was read when eventTime says', () => {
  const readAt = item({ type: 'message-read', eventTime: '2025-12-31T23:59:00.000Z' })
  expect(read(JSON.stringify([readAt]))).toMatchObject({
    callbacks: [{ occurredAt: new Date('2025-12-31T23:59:00Z') }],
  })
})

test('one message to two numbers is two callbacks', () => {
  const reading = read(JSON.stringify([item(), item({ to: '+15550100003' })]))
  const ids = reading.kind === 'read' ? reading.callbacks.map(({ callbackId }) => callbackId) : []
  expect(new Set(ids).size).toBe(2)
})

test('what is no callback among callbacks is put aside alone', () => {
  for (const bad of ['null', '1', '"x"', '[]', 'true']) {
    expect(read(`[${bad},${JSON.stringify(item())}]`)).toMatchObject({
      callbacks: [{ kind: 'unreadable', reason: 'unreadable_body' }, { kind: 'genuine' }],
    })
  }
})

test('a callback that nothing names is named by its bytes', () => {
  for (const body of [
    '{}',
    '[{}]',
    '[{"message":null}]',
    '[{"message":{"id":null}}]',
    '[{"message":{"id":""}}]',
    '[{"message":[]}]',
  ]) {
    expect(read(body)).toMatchObject({ callbacks: [{ kind: 'genuine', callbackId: expect.stringMatching(/^body:/) }] })
  }
})

test.each(['', 'null', '12', '"x"', 'a=1', '[', '[{]', '{"a":1}x'])('%j is not readable', (body) => {
  expect(read(body)).toMatchObject({ kind: 'refused', as: 'unreadable' })
})

test('an empty array holds nothing', () => {
  expect(read('[]')).toEqual({ kind: 'read', callbacks: [] })
})

test('what the source sends it accepts, and no forgery', () => {
  for (const [scheme, { samples }] of Object.entries(bandwidth.provider.schemes)) {
    const configured = sourceOf(bandwidth({ scheme: scheme as 'voice', basicAuth }))!
    for (const [type, sample] of Object.entries(samples)) {
      expect(signAndRead(configured, sample)).toMatchObject({ callbacks: [{ kind: 'genuine', type }] })
      expect(signAndRead(configured, sample, { forged: true })).toMatchObject({ reason: 'credentials_mismatch' })
    }
  }
})

test('envelopes hold any number of callbacks', () => {
  const callbacks = [item(), item({ to: '2' })].map((callback) => Buffer.from(JSON.stringify(callback)))
  expect(open.read(requestOf({ body: open.envelope!(callbacks) }))).toMatchObject({
    callbacks: callbacks.map((raw) => ({ raw })),
  })
  expect(open.envelope!([]).toString()).toBe('[]')
})

test('credentials are asked for', () => {
  expect(source.challenge).toMatch(/^Basic/)
  expect(source.read(requestOf({ body: '[]' }))).toMatchObject({ reason: 'credentials_missing' })
  expect(() => sourceOf(bandwidth({}))).toThrow('nothing proves a request')
  expect(() => sourceOf(bandwidth({ secrets: 'x' }))).toThrow('has no signature')
})
