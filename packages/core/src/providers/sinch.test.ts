import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/sinch.json' with { type: 'json' }
import type { Reading, Source } from './provider.ts'
import { sinch } from './sinch.ts'

const SECRET = vectors.voice.key

function verdictOf(reading: Reading): string {
  if (reading.kind === 'refused') return reading.reason
  const [callback] = reading.callbacks
  return callback!.kind === 'genuine' ? 'genuine' : callback!.reason
}

/** Header values that are there. */
function present(headers: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

function read(source: Source, body: unknown, headers: Record<string, string> = {}) {
  return source.read(requestOf({ body: typeof body === 'string' ? body : JSON.stringify(body), headers }))
}

const sms = sourceOf(sinch({ scheme: 'sms', urlTokens: 'token' }))!
const conversation = sourceOf(sinch({ scheme: 'conversation', urlTokens: 'token' }))!

const idOf = (source: Source, body: unknown, headers?: Record<string, string>) => {
  const reading = read(source, body, headers)
  return reading.kind === 'read' ? reading.callbacks[0]!.callbackId : undefined
}

describe('voice signatures', () => {
  test.each(vectors.voice.vectors)('$name', (vector) => {
    const { path, body, authorization, contentType, timestamp } = vector as Partial<Record<string, string>>
    const headers = present({ authorization, 'content-type': contentType, 'x-timestamp': timestamp })
    for (const scheme of ['voice', 'verification', 'voice2'] as const) {
      const source = sourceOf(sinch({ scheme, secrets: SECRET }))!
      const reading = source.read(requestOf({ url: `https://callbacks.yourdomain.com${path}`, body: body!, headers }))
      expect(verdictOf(reading)).toBe(vector.expect)
    }
  })
})

describe.each(['conversation', 'sms'] as const)('%s signatures', (scheme) => {
  const source = sourceOf(sinch({ scheme, secrets: vectors.conversation.secret }))!
  test.each(vectors.conversation.vectors)('$name', (vector) => {
    const { body, signature, nonce, timestamp, algorithm } = vector as Partial<Record<string, string>>
    const name = 'X-Sinch-Webhook-Signature'
    const headers = present({
      [name]: signature,
      [`${name}-Nonce`]: nonce,
      [`${name}-Timestamp`]: timestamp,
      [`${name}-Algorithm`]: algorithm,
    })
    expect(verdictOf(source.read(requestOf({ body: body!, headers })))).toBe(vector.expect)
  })
})

describe('what a source signs it accepts, and no forgery', () => {
  const { schemes } = sinch.provider
  const cases = Object.entries(schemes).flatMap(([scheme, { samples }]) =>
    Object.entries(samples).map(([type, sample]) => ({ scheme: scheme as keyof typeof schemes, type, sample })),
  )
  test.each(cases)('$scheme $type', ({ scheme, type, sample }) => {
    const source = sourceOf(sinch({ scheme, secrets: SECRET }))!
    expect(signAndRead(source, sample)).toMatchObject({
      callbacks: [{ kind: 'genuine', type, callbackId: expect.stringMatching(/./), verifiedBy: 'body' }],
    })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ kind: 'refused', as: 'forged' })
    const tamper = (request: { body: Buffer }) => ({
      ...request,
      body: Buffer.concat([request.body, Buffer.from(' ')]),
    })
    expect(signAndRead(source, sample, { tamper: tamper as never })).toMatchObject({ reason: 'signature_mismatch' })
  })
})

test('a time limit holds where one is set, and only there', () => {
  const { headers, body, url } = sourceOf(sinch({ secrets: SECRET }))!.sign(
    { method: 'POST', url: 'https://hooks.example.test/a', headers: {}, body: Buffer.from('{}') },
    { at: new Date('2026-01-01T00:00:00Z') },
  )
  const at = (time: string, toleranceSeconds?: number) =>
    verdictOf(
      sourceOf(sinch({ secrets: SECRET, ...(toleranceSeconds && { toleranceSeconds }) }))!.read(
        requestOf({ url, headers, body, receivedAt: new Date(time) }),
      ),
    )
  expect(at('2030-01-01T00:00:00Z')).toBe('genuine')
  expect(at('2026-01-01T00:01:00Z', 60)).toBe('genuine')
  expect(at('2026-01-01T00:01:01Z', 60)).toBe('timestamp_out_of_tolerance')
})

test('the public URL must be known, and its path decides', () => {
  expect(() => sourceOf(sinch({ secrets: SECRET }), {})).toThrow('PUBLIC_BASE_URL')
  expect(sourceOf(sinch({ secrets: SECRET }))!.needsUrl).toBe(true)
  expect(sourceOf(sinch({ secrets: SECRET }))!.keptHeaders).toEqual(['authorization'])
})

test('a secret that is no base64 is a problem that does not show it', () => {
  expect(() => sourceOf(sinch({ secrets: 'no base64!' }))).toThrow('it must be base64')
  expect(() => sourceOf(sinch({ secrets: 'no base64!' }))).not.toThrow('no base64!')
})

describe('what names a callback', () => {
  const voice = sourceOf(sinch({ urlTokens: 'token' }))!
  const voice2 = sourceOf(sinch({ scheme: 'voice2', urlTokens: 'token' }))!
  const verification = sourceOf(sinch({ scheme: 'verification', urlTokens: 'token' }))!

  test('a call’s event is named by call, event and time', () => {
    const ace = { event: 'ace', callid: 'c:1', timestamp: '2026-01-01T00:00:00Z' }
    expect(idOf(voice, ace)).toBe('c%3A1:ace:2026-01-01T00%3A00%3A00Z')
    expect(idOf(voice, { ...ace, event: 'dice' })).not.toBe(idOf(voice, ace))
    expect(idOf(voice, { ...ace, callid: null })).toMatch(/^body:/)
  })
  test('each key that is pressed in a conference is an event of its own, even within a second', () => {
    const pressed = (value: string) =>
      idOf(voice, {
        event: 'pie',
        callid: 'c1',
        timestamp: '2014-12-01T08:01:57Z',
        menuResult: { menuId: 'myConference', type: 'sequence', value, inputMethod: 'dtmf' },
      })
    expect(pressed('1')).toBe('c1:pie:2014-12-01T08%3A01%3A57Z:myConference:1')
    expect(pressed('2')).not.toBe(pressed('1'))
  })
  test('what has no time, as each notify of a call, is named by its bytes', () => {
    const [finished, available] = ['recording_finished', 'recording_available'].map((type) =>
      idOf(voice, { event: 'notify', callid: 'c1', version: 1, type }),
    )
    expect([finished, available]).toEqual([expect.stringMatching(/^body:/), expect.stringMatching(/^body:/)])
    expect(finished).not.toBe(available)
  })
  test('voice 2.0 is named by ce-id', () => {
    const body = { event: 'call.answered', call: { callId: 'c1' } }
    expect(read(voice2, body, { 'ce-id': 'e1', 'ce-time': '2026-06-10T21:27:04.0783345+00:00' })).toMatchObject({
      callbacks: [
        { callbackId: 'e1', type: 'call.answered', callId: 'c1', occurredAt: new Date('2026-06-10T21:27:04.078Z') },
      ],
    })
    expect(idOf(voice2, body)).toMatch(/^body:/)
  })
  test('request and result of one verification are two', () => {
    expect(idOf(verification, { id: 'v', event: 'VerificationRequestEvent' })).toBe('v:VerificationRequestEvent')
    expect(idOf(verification, { id: 'v', event: 'VerificationResultEvent', status: 'FAIL' })).toBe(
      'v:VerificationResultEvent:FAIL',
    )
  })
  test('a verification’s SMS that failed and one that arrived are two', () => {
    const sms = (smsResult: string) =>
      idOf(verification, { id: 'v', event: 'VerificationSmsDeliveredEvent', smsResult })
    expect([sms('Failed'), sms('Successful')]).toEqual([
      'v:VerificationSmsDeliveredEvent:Failed',
      'v:VerificationSmsDeliveredEvent:Successful',
    ])
  })
  test('each state of a message, and each recipient of a batch, is its own', () => {
    const report = {
      type: 'recipient_delivery_report_sms',
      batch_id: 'b',
      status: 'Delivered',
      recipient: '1',
      at: '2026-01-01T00:00:00Z',
    }
    const ids = [report, { ...report, recipient: '2' }, { ...report, status: 'Dispatched' }].map((body) =>
      idOf(sms, body),
    )
    expect(new Set(ids).size).toBe(3)
    expect(idOf(sms, { ...report })).toBe(ids[0])
    expect(idOf(sms, { type: 'mo_text', id: 'in/1' })).toBe('in/1')
    const summary = { type: 'delivery_report_sms', batch_id: 'b', statuses: [{ code: 0, count: 3 }] }
    expect(idOf(sms, summary)).toMatch(/^delivery_report_sms:b:[0-9a-f]{64}:$/)
    expect(idOf(sms, { ...summary, statuses: [] })).not.toBe(idOf(sms, summary))
  })
  test('a conversation’s callback is named by what it reports', () => {
    const body = (type: string, value: unknown) => ({ app_id: 'a', event_time: '2026-01-01T00:00:00Z', [type]: value })
    expect(idOf(conversation, body('message', { id: 'm1' }))).toBe('message:m1')
    expect(idOf(conversation, body('message_delivery_report', { message_id: 'm1', status: 'READ' }))).toBe(
      'message_delivery_report:m1:READ',
    )
    expect(idOf(conversation, body('contact_create_notification', { contact: { id: 'c' } }))).toBe(
      'contact_create_notification:c:::2026-01-01T00%3A00%3A00Z',
    )
    expect(idOf(conversation, body('something_new', {}))).toMatch(/^body:/)
    expect(idOf(conversation, { app_id: 'a' })).toMatch(/^body:/)
  })
  test.each([
    ['message_delivery_report', 'message_id'],
    ['event_delivery_report', 'event_id'],
  ])('what falls back to another channel is reported for each of them: %s', (type, id) => {
    const report = (status: string, channel: string) =>
      idOf(conversation, { [type]: { [id]: 'm1', status, channel_identity: { channel, identity: '1' } } })
    const reports = [
      report('QUEUED_ON_CHANNEL', 'RCS'),
      report('SWITCHING_CHANNEL', 'RCS'),
      report('QUEUED_ON_CHANNEL', 'SMS'),
    ]
    expect(reports[0]).toBe(`${type}:m1:QUEUED_ON_CHANNEL:RCS`)
    expect(new Set(reports).size).toBe(3)
  })
  test('a message that is submitted to a second channel is submitted twice', () => {
    const submitted = (channel: string) =>
      idOf(conversation, { message_submit_notification: { message_id: 'm1', channel_identity: { channel } } })
    expect(submitted('RCS')).toBe('message_submit_notification:m1:RCS')
    expect(submitted('SMS')).not.toBe(submitted('RCS'))
  })
  // As the vendor's samples have them: without event_time.
  const [earlier, later] = ['2020-11-17T16:13:57.052735Z', '2021-03-01T09:00:00Z']
  const accepted = (type: string, value: object, accepted_time = earlier) =>
    idOf(conversation, { app_id: 'a', accepted_time, project_id: 'p', [type]: value })
  test.each([
    ['contact_update_notification', { contact: { id: 'c' } }],
    ['event', { contact_id: 'c', contact_event: { composing_event: {} } }],
    ['opt_in_notification', { contact_id: 'c', channel: 'WHATSAPP', status: 'OPT_IN_SUCCEEDED' }],
  ])('what happens to a contact again is another callback, and what is sent again is not: %s', (type, value) => {
    expect(accepted(type, value)).toMatch(new RegExp(`^${type}:c:`))
    expect(accepted(type, { ...value, unheard: 'of' })).toBe(accepted(type, value))
    expect(accepted(type, value, later)).not.toBe(accepted(type, value))
    expect(idOf(conversation, { [type]: value })).toMatch(/^body:/)
  })
  test('what a contact’s channel was asked is named by request, channel and answer, whenever it comes', () => {
    const capability = { contact_id: 'c', channel: 'WHATSAPP', capability_status: 'CAPABILITY_FULL', request_id: 'r1' }
    const name = accepted('capability_notification', capability)
    expect(name).toBe('capability_notification:c:CAPABILITY_FULL:WHATSAPP:r1')
    expect(accepted('capability_notification', capability, later)).toBe(name)
    for (const other of [{ request_id: 'r2' }, { channel: 'RCS' }, { capability_status: 'NO_CAPABILITY' }]) {
      expect(accepted('capability_notification', { ...capability, ...other })).not.toBe(name)
    }
  })
  test('a conversation starts and stops once, without a time', () => {
    for (const type of ['conversation_start_notification', 'conversation_stop_notification']) {
      expect(idOf(conversation, { [type]: { conversation: { id: 'v' } } })).toBe(`${type}:v`)
    }
  })
  test('each analysis of a message is its own', () => {
    const analysed = (results: object) =>
      idOf(conversation, { smart_conversation_notification: { message_id: 'm1', analysis_results: results } })
    expect(analysed({ ml_nlu_result: [] })).toMatch(/^smart_conversation_notification:m1:[0-9a-f]{64}$/)
    expect(analysed({ ml_sentiment_result: [] })).not.toBe(analysed({ ml_nlu_result: [] }))
  })
  test('metadata of the channel is not what a callback is about', () => {
    expect(idOf(conversation, { channel_metadata: { id: 'x' }, message: { id: 'm1' } })).toBe('message:m1')
  })
})

test.each(['', '[]', 'null', '"text"', '12', '{', 'a=1', '\u0000', '[{"event":"ace"}]'])(
  '%j is not readable',
  (body) => {
    for (const scheme of ['voice', 'verification', 'voice2', 'conversation', 'sms'] as const) {
      const source = sourceOf(sinch({ scheme, urlTokens: 'token' }))!
      expect(read(source, body)).toMatchObject({ kind: 'refused', as: 'unreadable' })
    }
  },
)

test('SMS is tried again after 5xx and 429 only', () => {
  const { isRetried } = sinch.provider.schemes.sms.delivery
  expect([500, 503, 429, 400, 401, 404, 408].map((status) => isRetried!(status))).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ])
})

test('SMS needs no signature where another secret is asked for', () => {
  const source = sourceOf(sinch({ scheme: 'sms', basicAuth: { username: 'u', password: 'p:q' } }))!
  const sample = sinch.provider.schemes.sms.samples['mo_text']!
  expect(signAndRead(source, sample)).toMatchObject({ callbacks: [{ kind: 'genuine', verifiedBy: 'secret' }] })
  expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'credentials_mismatch' })
})
