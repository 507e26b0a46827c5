import { expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import { infobip } from './infobip.ts'

const open = sourceOf(infobip({ urlTokens: 'token' }))!
const read = (body: unknown) => open.read(requestOf({ body: typeof body === 'string' ? body : JSON.stringify(body) }))

const report = (fields: Record<string, unknown> = {}) => ({
  messageId: 'MSG-1',
  doneAt: '2026-01-01T00:00:01.000+0000',
  status: { id: 5 },
  ...fields,
})

function idsOf(...results: unknown[]) {
  const reading = read({ results })
  return reading.kind === 'read' ? reading.callbacks.map(({ callbackId }) => callbackId) : []
}

test('each result is a callback, named by message, status and time', () => {
  const results = [report(), report({ messageId: 'MSG-2', status: { id: 9 } })]
  expect(read({ results })).toMatchObject({
    callbacks: [
      {
        kind: 'genuine',
        callbackId: 'MSG-1:5:2026-01-01T00%3A00%3A01.000%2B0000',
        type: 'delivery-report',
        occurredAt: new Date('2026-01-01T00:00:01Z'),
        raw: Buffer.from(JSON.stringify(results[0])),
      },
      { kind: 'genuine', callbackId: 'MSG-2:9:2026-01-01T00%3A00%3A01.000%2B0000' },
    ],
  })
})

test('states of one message differ, repetitions do not', () => {
  const [first, again, other, later, seen] = idsOf(
    report(),
    report(),
    report({ status: { id: 2 } }),
    report({ doneAt: '2026-01-01T00:00:02.000+0000' }),
    { messageId: 'MSG-1', seenAt: '2026-01-01T00:00:01.000+0000' },
  )
  expect(again).toBe(first)
  expect(new Set([first, other, later, seen]).size).toBe(4)
})

test('a message that came in and its deletion are two, and the deletion has its time', () => {
  const deletion = {
    messageId: 'MSG-1',
    sentAt: '2026-01-01T00:00:00.000+0000',
    deletedAt: '2026-01-01T00:01:00.000+0000',
  }
  const [message, deleted, again] = idsOf({ messageId: 'MSG-1', receivedAt: deletion.sentAt }, deletion, deletion)
  expect([message, deleted]).toEqual(['MSG-1', 'MSG-1::2026-01-01T00%3A01%3A00.000%2B0000'])
  expect(again).toBe(deleted)
  expect(read(deletion)).toMatchObject({ callbacks: [{ occurredAt: new Date('2026-01-01T00:01:00Z') }] })
})

test('what is told of an e-mail without a time of its own is named by its bytes, not by the e-mail', () => {
  const told = ['OPENED', 'CLICKED', 'COMPLAINED'].map((notificationType) => ({ notificationType, messageId: 'MSG-1' }))
  const ids = told.map((body) => idsOf(body)[0])
  for (const id of ids) expect(id).toMatch(/^body:/)
  expect(new Set(ids).size).toBe(3)
})

test('what is told of an e-mail is named by its eventId, where it has one', () => {
  const clicked = (eventId: string) => ({
    notificationType: 'CLICKED',
    eventId,
    messageId: 'MSG-1',
    url: 'https://a.test',
  })
  expect([clicked('e1'), clicked('e2')].map((body) => idsOf(body)[0])).toEqual(['e1', 'e2'])
})

test('of a call, each event has its time', () => {
  const event = { type: 'CALL_ESTABLISHED', callId: 'c1', callsConfigurationId: 'f', properties: {} }
  expect(read({ ...event, timestamp: '2024-06-14T09:12:00.000+0000' })).toMatchObject({
    callbacks: [{ callbackId: expect.stringMatching(/^body:/), occurredAt: new Date('2024-06-14T09:12:00Z') }],
  })
})

test('two attempts to call with a voice message are two, and each has the time of its end', () => {
  const attempt = (endTime: string) => ({
    messageId: 'MSG-1',
    sentAt: '2018-06-25T13:38:14.730+0000',
    voiceCall: { feature: 'Voice-message', endTime },
    status: { id: 5 },
  })
  const ends = ['2018-06-25T13:38:28.316+0000', '2018-06-25T13:48:28.316+0000']
  const ids = idsOf(...ends.map(attempt))
  expect(ids[0]).toBe('MSG-1:5:2018-06-25T13%3A38%3A28.316%2B0000')
  expect(ids[1]).not.toBe(ids[0])
  expect(read(attempt(ends[0]!))).toMatchObject({ callbacks: [{ occurredAt: new Date('2018-06-25T13:38:28.316Z') }] })
})

test('the shape gives the type', () => {
  const typeOf = (body: unknown) => {
    const reading = read(body)
    const [callback] = reading.kind === 'read' ? reading.callbacks : []
    return callback?.kind === 'genuine' ? callback.type : undefined
  }
  expect(typeOf(report())).toBe('delivery-report')
  expect(typeOf({ messageId: 'm', seenAt: 'x' })).toBe('seen-report')
  expect(typeOf({ messageId: 'm', deletedAt: 'x' })).toBe('deleted-report')
  expect(typeOf({ messageId: 'm', receivedAt: 'x' })).toBe('incoming-message')
  expect(typeOf({ messageId: 'm', notificationType: 'OPENED' })).toBe('OPENED')
  expect(typeOf({ sender: 's', to: 't', receivedAt: 'x', event: { type: 'TYPING_INDICATOR' } })).toBe(
    'TYPING_INDICATOR',
  )
  expect(typeOf({ type: 'CALL_FINISHED', callId: 'c' })).toBe('CALL_FINISHED')
  expect(typeOf({})).toBe('')
})

test('a body without results is one callback, and keeps a single id as it is', () => {
  expect(read({ messageId: 'in/1', receivedAt: '2026-01-01T00:00:00.000+0000' })).toMatchObject({
    callbacks: [{ callbackId: 'in/1', occurredAt: new Date('2026-01-01T00:00:00Z') }],
  })
})

test('numbers keep their digits, and what nothing names is named by its bytes', () => {
  expect(open.read(requestOf({ body: '{"results":[{"messageId":9007199254740993,"receivedAt":"x"}]}' }))).toMatchObject(
    {
      callbacks: [{ callbackId: '9007199254740993' }],
    },
  )
  for (const messageId of [null, '', true, {}, [], 1.5, undefined]) {
    expect(idsOf(report({ messageId }))[0]).toMatch(/^body:/)
  }
})

test('what is no callback among results is put aside alone', () => {
  expect(read({ results: [null, 1, 'x', [], report()] })).toMatchObject({
    callbacks: [
      ...Array.from({ length: 4 }, () => ({ kind: 'unreadable', reason: 'unreadable_body' })),
      { kind: 'genuine' },
    ],
  })
})

test.each(['', 'null', '[]', '[{}]', '"x"', 'a=1', '{', '{"results":null}', '{"results":{}}', '{"results":"x"}'])(
  '%j is not readable',
  (body) => {
    expect(read(body)).toMatchObject({ kind: 'refused', as: 'unreadable' })
  },
)

test('no results are no callbacks', () => {
  expect(read('{"results":[]}')).toEqual({ kind: 'read', callbacks: [] })
})

test('what the source sends it accepts, and no forgery', () => {
  const source = sourceOf(infobip({ headers: { 'X-API-Key': 'key' } }))!
  for (const [type, sample] of Object.entries(infobip.provider.schemes.unsigned.samples)) {
    expect(signAndRead(source, sample)).toMatchObject({ callbacks: [{ kind: 'genuine', type, verifiedBy: 'secret' }] })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'credentials_mismatch' })
  }
})
