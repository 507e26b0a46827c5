import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/fonestorm.json' with { type: 'json' }
import { fonestorm } from './fonestorm.ts'
import type { GenuineCallback } from './provider.ts'

const authorization = `Basic ${Buffer.from('fonestorm-user:fonestorm-pass').toString('base64')}`
const source = sourceOf(fonestorm({ basicAuth: { username: 'fonestorm-user', password: 'fonestorm-pass' } }), {})!
const form = { 'content-type': 'application/x-www-form-urlencoded' }

/** The one callback of a request, or why there is none. */
function read({
  query = '',
  ...request
}: {
  method?: string
  query?: string
  body?: string | Buffer
  headers?: Record<string, string>
}) {
  const url = `/callbacks/fonestorm${query}`
  const reading = source.read(requestOf({ ...request, url, headers: { authorization, ...request.headers } }))
  return reading.kind === 'read' ? reading.callbacks[0]! : reading
}

const get = (query: string) => read({ method: 'GET', query: `?${query}` })
const json = (fields: unknown, query = '') => read({ body: JSON.stringify(fields), query })

describe('bodies, whatever their content type says', () => {
  test.each(vectors.bodies)('$name', ({ raw_body: body, content_type, expect_fields }) => {
    const callback = read({ body, headers: { 'content-type': content_type } }) as GenuineCallback
    expect(callback).toMatchObject({
      kind: 'genuine',
      type: 'messages',
      callbackId: expect_fields.id,
      verifiedBy: 'secret',
    })
    expect(JSON.parse(callback.payload ?? callback.raw.toString())).toEqual(expect_fields)
    expect(callback.raw.toString()).toBe(body)
  })

  test('JSON after spaces or a byte order mark is JSON, and the callback is without them', () => {
    const raw = Buffer.from('{"id":"a"}')
    expect(read({ body: ' \r\n{"id":"a"}\n', headers: form })).toMatchObject({ callbackId: 'a', raw })
    expect(read({ body: '\uFEFF{"id":"a"}', headers: form })).toMatchObject({ callbackId: 'a', raw })
  })

  test('of a form or a query up to a thousand fields are read: anybody can send half a million', () => {
    const fields = (count: number) => `id=a${'&x=1'.repeat(count - 1)}`
    for (const given of [get, (body: string) => read({ body, headers: form })]) {
      expect(given(fields(1000))).toMatchObject({ callbackId: 'a' })
      expect(given(fields(1001))).toMatchObject({ reason: 'unreadable_body' })
    }
  })

  test.each(['', ' ', '{', '{"id":"a"', 'hello', 'id=', '&&', '[', 'null', '\u0000'])('not %j', (body) => {
    expect(read({ body, headers: form })).toMatchObject({ reason: 'unreadable_body' })
  })
})

test.each([
  '[]',
  ' [ ] ',
  '[1]',
  '[null]',
  '["id=a"]',
  '[[{"id":"a"}]]',
  '[{"id":"a"},1]',
  '<?xml version="1.0"?><message id="a">hello</message>',
  '\uFEFF\r\n<message id="a"/>',
  '--boundary\r\nContent-Disposition: form-data; name="id"\r\n\r\na\r\n--boundary--\r\n',
])('what is neither a form nor JSON objects is refused, not stored: %j', (body) => {
  expect(read({ body, headers: form })).toMatchObject({ kind: 'refused', as: 'unreadable', reason: 'unreadable_body' })
  expect(read({ body, query: '?id=a' })).toMatchObject({ kind: 'refused', reason: 'unreadable_body' })
})

describe('a POST whose fields are all in the query', () => {
  const query = '?callback=messages/receive_notify&id=a&message=hello%20world'

  test.each(['', ' ', '{}', ' { }\r\n', '\uFEFF{}'])('is read as a GET would be: %j', (body) => {
    const callback = read({ body, query, headers: form }) as GenuineCallback
    expect(callback).toMatchObject({ kind: 'genuine', type: 'messages/receive_notify', callbackId: 'receive:a' })
    expect(callback.raw.toString()).toBe(query.slice(1))
    expect(JSON.parse(callback.payload!)).toMatchObject({ id: 'a', message: 'hello world' })
  })

  test('names nothing where only the callback is in it, and is not looked at beside a body', () => {
    const named = '?callback=messages/receive_notify'
    expect(read({ body: '', query: named })).toMatchObject({ kind: 'refused', reason: 'unreadable_body' })
    expect(read({ body: '{}', query: named })).toMatchObject({ reason: 'callback_id_missing' })
    expect(read({ body: '', query: '?id=((id))' })).toMatchObject({ reason: 'token_not_replaced' })
    expect(read({ body: '{"id":"b"}', query })).toMatchObject({ callbackId: 'receive:b' })
    expect(read({ body: 'hello', query })).toMatchObject({ reason: 'unreadable_body' })
  })
})

describe('Basic authentication', () => {
  test.each(vectors.basicAuth)(
    '$authorization',
    ({ authorization: presented, username = 'u', password = 'p', verdict }) => {
      const guarded = sourceOf(fonestorm({ basicAuth: { username, password } }), {})!
      const reading = guarded.read(requestOf({ body: '{"id":"a"}', headers: { authorization: presented } }))
      expect(reading.kind).toBe(verdict === 'accept' ? 'read' : 'refused')
    },
  )

  test.each([
    ['another password', 'fonestorm-user:fonestorm-pas'],
    ['one letter more', 'fonestorm-user:fonestorm-passs'],
    ['another case', 'Fonestorm-user:fonestorm-pass'],
    ['the colon elsewhere', 'fonestorm-use:r:fonestorm-pass'],
    ['no user name', ':fonestorm-pass'],
    ['nothing', ''],
  ])('not %s', (_name, credentials) => {
    const headers = { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` }
    expect(read({ body: '{"id":"a"}', headers })).toMatchObject({ kind: 'refused', reason: 'credentials_mismatch' })
  })

  test('a missing header, a bearer token and a wrong alphabet are refused', () => {
    expect(source.read(requestOf({ body: '{"id":"a"}' }))).toMatchObject({ reason: 'credentials_missing' })
    for (const presented of [
      'Bearer x',
      'Basic',
      'Basic  ',
      `Basic ${authorization}`,
      `${authorization}, ${authorization}`,
    ]) {
      expect(read({ body: '{"id":"a"}', headers: { authorization: presented } })).toMatchObject({
        reason: 'credentials_mismatch',
      })
    }
  })

  test('something must prove a request, and a signature cannot', () => {
    expect(() => sourceOf(fonestorm({}), {})).toThrow('nothing proves a request')
    expect(() => sourceOf(fonestorm({ secrets: ['s'], urlTokens: ['token'] }), {})).toThrow('has no signature')
  })
})

describe('a source accepts its own samples, and none with wrong credentials', () => {
  const { samples } = fonestorm.provider.schemes.callback
  test.each(Object.entries(samples))('%s', (event, sample) => {
    const reading = signAndRead(source, sample)
    expect(reading).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine', type: event.split(' ')[0] }] })
    expect(reading.kind === 'read' && (reading.callbacks[0] as GenuineCallback).previousName).toBeUndefined()
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'credentials_mismatch' })
  })
})

describe('tokens that were not replaced', () => {
  test.each([
    'id=((id))&message=x',
    'id={{id}}&message=x',
    'id=%28%28id%29%29',
    'id=a-((id))',
    'uid=((uid))&status=BEGIN',
    'uid=u&status=((status))&direction=INBOUND',
    'uid=u&status={{status}}',
    'uid=u&status=END&direction=((direction))',
    'uid=((uid))',
    'uid=u&status=SUCCESS&attempts=((attempts))',
  ])('name nothing: %s', (query) => {
    expect(get(query)).toMatchObject({ kind: 'unreadable', reason: 'token_not_replaced' })
  })

  test('in a POST as well, and a text may hold what looks like one', () => {
    expect(json({ id: '((id))' })).toMatchObject({ reason: 'token_not_replaced' })
    expect(json({ id: 'a', message: 'say ((msg)) {{id}}' })).toMatchObject({ kind: 'genuine', callbackId: 'a' })
    expect(json({ id: 'a' }, '?id=((id))')).toMatchObject({ kind: 'genuine', callbackId: 'a' })
    expect(get('id=a&x=((nosuchtoken))')).toMatchObject({ kind: 'genuine', callbackId: 'a' })
    expect(get('id=(a)&message=x')).toMatchObject({ callbackId: '(a)' })
  })
})

describe('what names a callback', () => {
  const call = { uid: 'u', direction: 'INBOUND', type: 'VOICE' }

  test('BEGIN and END of a call are two events', () => {
    expect(json({ ...call, status: 'BEGIN' })).toMatchObject({
      callbackId: 'INBOUND:u:BEGIN',
      callId: 'u',
      type: 'calls/receive_notify',
    })
    expect(json({ ...call, status: 'END' })).toMatchObject({ callbackId: 'INBOUND:u:END', callId: 'u' })
    expect(json({ ...call, direction: 'OUTBOUND', status: 'END' })).toMatchObject({
      callbackId: 'OUTBOUND:u:END',
      type: 'calls/send_notify',
    })
    expect(get('uid=u&status=END')).toMatchObject({ callbackId: ':u:END', type: 'calls' })
    expect(json(call)).toMatchObject({ callId: 'u', previousName: {} })
  })

  test('a message sent and a message received may have one id, where the URL says which is which', () => {
    const name = (query: string) => (json({ id: 'a', message: 'x' }, query) as GenuineCallback).callbackId
    expect(name('?callback=messages/receive_notify')).toBe('receive:a')
    expect(name('?callback=messages%2Freceive')).toBe('receive:a')
    expect(name('?callback=messages/send_notify')).toBe('send:a')
    expect(name('?src=fs')).toBe('a')
    for (const odd of ['', 'x', 'messages', 'Messages/receive', '((callback))', '../messages/x']) {
      expect(json({ id: 'a' }, `?callback=${odd}`)).toMatchObject({ type: 'messages', callbackId: 'a' })
    }
  })

  test('a message of the older documentation, which has a uid, is no call', () => {
    const message = { to: '3215550112', from: '3215550111', message: 'hi', uid: 'u' }
    expect(json(message)).toMatchObject({ type: 'messages', callbackId: 'u' })
    expect(json(message)).not.toHaveProperty('callId')
    expect(get('uid=u&msg=hi')).toMatchObject({ type: 'messages', callbackId: 'u' })
    expect(json(message, '?callback=messages/send_notify')).toMatchObject({ callbackId: 'send:u' })
    expect(json({ ...message, id: 'a' })).toMatchObject({ callbackId: 'a' })
    expect(get('uid={{uid}}&message=hi')).toMatchObject({ reason: 'token_not_replaced' })
    expect(json({ ...message, status: 'END' })).toMatchObject({ type: 'calls', callbackId: ':u:END' })
    expect(json({ ...message, direction: 'INBOUND' })).toMatchObject({ type: 'calls/receive_notify', callId: 'u' })
  })

  test('a fax is named by its attempts too', () => {
    const fax = { uid: 'u', status: 'FAILED', attempts: 3, timestamp: '2025-12-31T23:00:00Z' }
    expect(json(fax)).toMatchObject({
      type: 'faxes',
      callbackId: ':u:FAILED:3',
      occurredAt: new Date('2025-12-31T23:00:00Z'),
    })
    expect(json({ ...fax, attempts: 4 }, '?callback=faxes/send_notify')).toMatchObject({
      type: 'faxes/send_notify',
      callbackId: 'send:u:FAILED:4',
    })
    expect(json({ uid: 'u', pages: 1 })).toMatchObject({ type: 'faxes', callbackId: ':u::' })
  })

  test('call records and whatever else comes are named by their bytes', () => {
    const cdr = { uid: 'u', status: 'END', direction: 'INBOUND' }
    expect(json(cdr, '?callback=accounts/cdr_notify')).toMatchObject({ type: 'accounts/cdr_notify', previousName: {} })
    expect(json([cdr])).toMatchObject({ type: '', previousName: {} })
    expect(get('text=hello')).toMatchObject({ type: '', previousName: {} })
    expect(get('msg=hello')).toMatchObject({ type: 'messages', previousName: {} })
    for (const id of [null, true, {}, [], 1.5, ''])
      expect(json({ id, msg: 'x' })).toMatchObject({ type: 'messages', previousName: {} })
    expect(json({ id: 'x'.repeat(600) })).toMatchObject({ reason: 'callback_id_unreadable' })
    expect(json({ id: 'a\u0000' })).toMatchObject({ reason: 'callback_id_unreadable' })
    expect(read({ body: '{"id":12345678901234567890}' })).toMatchObject({ callbackId: '12345678901234567890' })
    expect(json({ id: '__proto__' })).toMatchObject({ callbackId: '__proto__' })
  })

  test('nothing at all is no callback', () => {
    expect(json({})).toMatchObject({ kind: 'unreadable', reason: 'callback_id_missing' })
    expect(read({ method: 'GET' })).toMatchObject({ kind: 'unreadable', reason: 'callback_id_missing' })
  })
})

test('handlers find the text of a message as `message`, whichever name it had', () => {
  const details = (payload: unknown) => source.details('messages', payload)
  expect(details({ id: 'a', msg: 'hi' })).toEqual({ id: 'a', message: 'hi' })
  expect(details({ id: 'a', message: 'hi' })).toEqual({ id: 'a', message: 'hi' })
  expect(details({ msg: 'a', message: 'b' })).toEqual({ message: 'b' })
  expect(details({ msg: 'a', message: null })).toEqual({ message: 'a' })
  for (const payload of [null, 'msg', 1, ['msg'], {}]) expect(details(payload)).toEqual(payload)
})
