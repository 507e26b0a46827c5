import type { ForwardAction } from '@ringback/core/forward'
import { describe, expect, test } from 'vitest'
import { anEvent } from '../../../../test/support/an-event.ts'
import { createRequest } from './forward.ts'
import type { Forwarded } from './forward.ts'

const event = anEvent({ callbackId: '9007199254740993', payload: {} })

const payloadJson = `{"id": 12345678901234567890, "price": 1.10, "on": true, "note": null, "text": "a&b ü/..", "list": [1.0, {"x": 99999999999999999999}]}`

const action: Pick<ForwardAction, 'as' | 'headers' | 'signingKeys'> = { as: 'json', headers: {}, signingKeys: [] }
const attempt = { idempotencyKey: 'key', attempt: 3, now: new Date('2026-03-01T12:00:02.900Z') }

function make(
  options: Partial<Pick<ForwardAction, 'as' | 'headers' | 'signingKeys'>>,
  { to = 'https://example.com/hook?a=1', ...forwarded }: Partial<Forwarded> & { to?: string } = {},
) {
  const source = { envelope: undefined, details: () => ({ deep: 7 }) }
  return createRequest(
    { ...action, ...options },
    to,
    { event, payloadJson, request: undefined, source, ...forwarded },
    attempt,
  )
}

test('every request says whose it is: the key, the event and the attempt', () => {
  expect(make({ headers: { 'x-team': 'billing' } }).headers).toEqual({
    'content-type': 'application/json',
    'user-agent': 'Ringback',
    'x-team': 'billing',
    'idempotency-key': 'key',
    'ringback-event-id': event.id,
    'ringback-attempt': '3',
  })
})

describe('as JSON', () => {
  test('the event has its names, its times and its payload with every digit', () => {
    const { method, url, body } = make({})
    expect({ method, url: url.href }).toEqual({ method: 'POST', url: 'https://example.com/hook?a=1' })
    expect(body!.toString()).toBe(
      `{"id":"${event.id}","source":"voximplant","accountId":"1","type":"sms_inbound","callbackId":"9007199254740993",` +
        `"callId":null,"occurredAt":"2026-11-22T05:00:00.000Z","receivedAt":"2026-11-22T05:00:01.000Z",` +
        `"verifiedBy":"id","payload":${payloadJson}}`,
    )
    expect(JSON.parse(body!.toString())).toMatchObject({ payload: { on: true, text: 'a&b ü/..' } })
  })
})

describe('as a form', () => {
  test('the payload’s fields are texts with every digit; what is no text is JSON', () => {
    const { method, headers, body } = make({ as: 'form' })
    expect(method).toBe('POST')
    expect(headers['content-type']).toBe('application/x-www-form-urlencoded')
    expect([...new URLSearchParams(body!.toString())]).toEqual([
      ['id', '12345678901234567890'],
      ['price', '1.10'],
      ['on', 'true'],
      ['note', ''],
      ['text', 'a&b ü/..'],
      ['list', '[1.0,{"x":99999999999999999999}]'],
    ])
  })

  test.each(['[1]', '"text"', '1', 'null'])('a payload without fields, %s, makes none', (json) => {
    expect(() => make({ as: 'form' }, { payloadJson: json })).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/no object/), retryable: false }),
    )
  })
})

describe('as a GET', () => {
  const get = (to: string, json = payloadJson) => make({ as: 'get' }, { to, payloadJson: json }).url.href

  test('tokens stand for fields of the payload, else for fields of the event, percent-encoded', () => {
    expect(make({ as: 'get' })).toMatchObject({ method: 'GET', body: undefined })
    expect(get('https://example.com/((type))?t=((text))&i={{id}}')).toBe(
      'https://example.com/sms_inbound?t=a%26b%20%C3%BC%2F..&i=12345678901234567890',
    )
    expect(get('https://example.com/?a=((list.1.x))&b=((payload.price))&c=((details.deep))&d=((occurredAt))')).toBe(
      'https://example.com/?a=99999999999999999999&b=1.10&c=7&d=2026-11-22T05%3A00%3A00.000Z',
    )
    expect(get('https://example.com/?n=((note))&c=((callId))')).toBe('https://example.com/?n=&c=')
  })

  test('a token that nothing stands behind ends the delivery', () => {
    for (const token of ['((nothing))', '{{list.2}}', '((constructor))', '((text.length))', '(())'])
      expect(() => get(`https://example.com/?a=${token}`)).toThrow(
        expect.objectContaining({ message: `the event has nothing for ${token}`, retryable: false }),
      )
  })

  test.each(['.', '..', '%2e%2E'])('a value %s does not lead to another path', (value) => {
    const json = JSON.stringify({ value })
    const to = 'https://example.com/a/((value))/b'
    if (value.startsWith('.')) expect(() => get(to, json)).toThrow(/would change the path/)
    else expect(get(to, json)).toBe('https://example.com/a/%252e%252E/b')
  })
})

describe('as it came', () => {
  const request = {
    method: 'PUT',
    url: '/callbacks/voximplant/***?b=2&c=%20',
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'x-signature': 'abc',
      authorization: '[redacted]',
      'x-api-key': `digest:${'0'.repeat(64)}`,
      host: 'here',
      connection: 'close',
      'content-length': '7',
      'x-forwarded-for': '1.2.3.4',
      'user-agent': 'Provider',
    },
    raw: Buffer.from([0x7b, 0xff, 0x7d]),
  }

  test('it has the method, the query, the bytes, and the headers that are safe', () => {
    const { method, url, headers, body } = make({ as: 'received' }, { request })
    expect(method).toBe('PUT')
    expect(url.href).toBe('https://example.com/hook?a=1&b=2&c=%20')
    expect(body).toEqual(request.raw)
    expect(headers).toEqual({
      'content-type': 'application/json; charset=utf-8',
      'x-signature': 'abc',
      'user-agent': 'Ringback',
      'idempotency-key': 'key',
      'ringback-event-id': event.id,
      'ringback-attempt': '3',
    })
  })

  test.each([`?text=it's`, '?q="<|>"&r=%27'])('the query %s is written as it was', (query) => {
    const { url, target } = make({ as: 'received' }, { request: { ...request, url: `/callbacks/generic${query}` } })
    expect(target).toBe(`/hook?a=1&${query.slice(1)}`)
    expect(url.href).toContain('https://example.com/hook?a=1&')
  })

  test('the provider’s own authorization, kept for it signs, goes to no other origin by a redirect', () => {
    const headers = { authorization: 'Bearer header.payload.signature', 'x-signature': 'abc' }
    const made = make({ as: 'received', headers: { 'x-key': 'hush' } }, { request: { ...request, headers } })
    expect(made.headers).toMatchObject(headers)
    expect([...made.credentialHeaders].toSorted()).toEqual(['authorization', 'x-key'])
  })

  test('a GET has its query and no body', () => {
    const { method, url, body } = make(
      { as: 'received' },
      { request: { ...request, method: 'GET' }, to: 'https://example.com' },
    )
    expect({ method, url: url.href, body }).toEqual({
      method: 'GET',
      url: 'https://example.com/?b=2&c=%20',
      body: undefined,
    })
  })

  test('one callback of a batch gets the envelope of its provider', () => {
    const source = {
      envelope: (callbacks: Buffer[]) => Buffer.concat([Buffer.from('['), ...callbacks, Buffer.from(']')]),
      details: () => undefined,
    }
    expect(make({ as: 'received' }, { request, source }).body).toEqual(Buffer.from([0x5b, 0x7b, 0xff, 0x7d, 0x5d]))
  })

  test('where its source has gone from the configuration, nothing is sent in a form that is a guess', () => {
    expect(() => make({ as: 'received' }, { request, source: undefined })).toThrow(/"voximplant" is not in/)
  })
})
