import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/vobiz.json' with { type: 'json' }
import type { GenuineCallback, Reading, Source } from './provider.ts'
import { vobiz } from './vobiz.ts'

type SchemeName = keyof typeof vobiz.provider.schemes

const { secrets } = vectors
const HOST = 'https://hooks.example.test'
const CALLBACK = 'Event=Hangup&CallUUID=c1'

function sourceFor(scheme: SchemeName, options: Partial<Parameters<typeof vobiz>[0]> = {}): Source {
  return sourceOf(vobiz({ scheme, secrets: [secrets.voice], ...options }))!
}

function genuine(reading: Reading): GenuineCallback[] {
  if (reading.kind === 'refused') throw new Error(`refused: ${reading.reason}`)
  return reading.callbacks.map((callback) => {
    if (callback.kind !== 'genuine') throw new Error(callback.reason)
    return callback
  })
}

const reasonOf = (reading: Reading) =>
  reading.kind === 'refused' ? reading.reason : reading.callbacks.map((callback) => callback.kind).join()

/** Base64 of the HMAC over `text`. */
const mac = (text: string, secret = secrets.voice, algorithm = 'sha256') =>
  createHmac(algorithm, secret).update(text).digest('base64')

const hex = (secret: string, body: string | Buffer) => createHmac('sha256', secret).update(body).digest('hex')

/** A voice request with a V3 signature over `address`. */
function v3(address: string, { url = address, body = CALLBACK, headers = {}, nonce = '123' } = {}) {
  return requestOf({
    url,
    body,
    headers: {
      'X-Vobiz-Signature-V3': mac(`${address}.${nonce}`),
      'X-Vobiz-Signature-V3-Nonce': nonce,
      ...headers,
    },
  })
}

describe('requests as Vobiz sends them', () => {
  test.each(vectors.requests)('$name', ({ scheme, method, target, headers, body, expect: expected }) => {
    const secret = { ...secrets, recording: secrets.voice }[scheme as SchemeName]
    const source = sourceFor(scheme as SchemeName, { secrets: [secret] })
    const request = requestOf({ method, url: HOST + target, headers, body })
    const callbacks = genuine(source.read(request))
    expect(callbacks).toMatchObject(
      expected.map((callback) => ({ ...callback, occurredAt: new Date(callback.occurredAt) })),
    )
    if (scheme === 'ndnc' || method === 'GET') return
    expect(callbacks[0]!.raw.toString()).toBe(body)
    const tampered = { ...request, body: Buffer.from(`${body}x`) }
    if (scheme !== 'voice') expect(reasonOf(source.read(tampered))).toBe('signature_mismatch')
  })
})

describe('a source accepts what it signs itself, and not what is signed with another secret', () => {
  const all = Object.entries(vobiz.provider.schemes).flatMap(([scheme, { samples }]) =>
    Object.entries(samples).map(([event, sample]) => ({ scheme: scheme as SchemeName, event, sample })),
  )
  const namedByBytes = new Set([
    'ConferenceDigitsMatch',
    'ConferenceRemoteSounds',
    'DialAction',
    'DialDigitsMatch',
    'Redirect',
    'conference.ended',
    'conference.started',
    'recording.completed',
  ])
  test.each(all)('$scheme $event', ({ scheme, event, sample }) => {
    const source = sourceFor(scheme)
    const [callback] = genuine(signAndRead(source, sample))
    expect(callback!.type).toBe(event.split(' ')[0])
    expect(callback!.previousName !== undefined).toBe(namedByBytes.has(event))
    expect(reasonOf(signAndRead(source, sample, { forged: true }))).toBe('signature_mismatch')
  })
})

describe('the URL that Vobiz may have signed', () => {
  const withToken = (base: string) => sourceOf(vobiz({ secrets: [secrets.voice], publicBaseUrl: base }), {})!

  test.each(vectors.urls.vectors)('$name', (vector) => {
    const url = vector.configured_url
    const body = CALLBACK
    const headersOf = (version: string, signature: string) => ({
      [`x-vobiz-signature-${version}`]: signature,
      [`x-vobiz-signature-${version}-nonce`]: vector.nonce,
    })
    const source = withToken(new URL(url).origin)
    for (const headers of [
      headersOf('v2', vector.v2),
      headersOf('v3', vector.v3),
      headersOf('v3', vector.alt_v3 ?? vector.v3),
    ]) {
      expect(genuine(source.read(requestOf({ url: `${url}?a=1#b`, body, headers })))).toMatchObject([
        { verifiedBy: 'url', nonces: [vector.nonce] },
      ])
    }
    if ('wrong_v3_from_request_url' in vector) {
      const headers = headersOf('v3', vector.wrong_v3_from_request_url)
      expect(reasonOf(source.read(requestOf({ url, body, headers })))).toBe('signature_mismatch')
    }
  })

  test('of a request with several signatures every nonce is remembered, for each could be sent again by itself', () => {
    const url = `${HOST}/callbacks/source`
    const v2 = { 'x-vobiz-signature-v2': mac(`${url}7`), 'x-vobiz-signature-v2-nonce': '7' }
    expect(genuine(sourceFor('voice').read(v3(url, { headers: v2 })))).toMatchObject([{ nonces: ['123', '7'] }])
    // One that nothing proves is not: else anybody could use up the nonces of others.
    const forged = { ...v2, 'x-vobiz-signature-v2': mac(`${url}8`) }
    expect(genuine(sourceFor('voice').read(v3(url, { headers: forged })))).toMatchObject([{ nonces: ['123'] }])
  })

  test('two recordings and two conferences of one call are two, by the older documentation too', () => {
    const nameOf = (fields: Record<string, unknown>) => {
      const body = Buffer.from(JSON.stringify({ call_id: 'c1', ...fields }))
      const source = sourceFor('legacy')
      const at = new Date('2026-01-01T00:00:00Z')
      const sent = source.sign({ method: 'POST', url: `${HOST}/callbacks/source`, headers: {}, body }, { at })
      const request = requestOf({ url: sent.url, headers: sent.headers, body: body.toString() })
      return genuine(source.read({ ...request, receivedAt: at }))[0]!.callbackId
    }
    expect(nameOf({ event: 'recording.completed', recording_id: 'r1' })).toBe('recording.completed:c1:r1')
    for (const [event, field] of [
      ['recording.completed', 'recording_url'],
      ['conference.started', 'conference_id'],
    ] as const) {
      const [first, again, second] = ['1', '1', '2'].map((value) => nameOf({ event, [field]: value }))
      expect(again).toBe(first)
      expect(second).not.toBe(first)
    }
  })

  test.each(['/7', 'a.7', '7?', '7='])('a nonce of V2 is not %j, for it would make one URL of another', (nonce) => {
    const url = `${HOST}/callbacks/source`
    const headers = { 'x-vobiz-signature-v2': mac(url + nonce), 'x-vobiz-signature-v2-nonce': nonce }
    const reading = sourceFor('voice').read(requestOf({ url, body: CALLBACK, headers }))
    expect(reasonOf(reading)).toBe('signature_unreadable')
  })

  test.each(['DialDigitsMatch', 'DialDigitsPressedBy', 'ConferenceDigitsMatch', 'StreamID', 'RecordingID'])(
    'two events of one call that differ in %s are two',
    (field) => {
      const names = ['1', '2'].map((value) => {
        const body = `Event=DigitsMatch&CallUUID=c1&${field}=${value}`
        return genuine(sourceFor('voice').read(v3(`${HOST}/callbacks/source`, { body })))[0]!.callbackId
      })
      expect(names[0]).toBeDefined()
      expect(new Set(names).size).toBe(2)
    },
  )

  test('a user name and password in the configured URL, known from Basic authentication', () => {
    const request = v3('https://us%20er:pa%3Ass@hooks.example.test/callbacks/source', {
      url: `${HOST}/callbacks/source`,
      headers: { authorization: `Basic ${Buffer.from('us er:pa:ss').toString('base64')}` },
    })
    expect(reasonOf(sourceFor('voice').read(request))).toBe('genuine')
  })

  test.each([
    ['another path', `${HOST}/callbacks/other`],
    ['a slash at the end', `${HOST}/callbacks/source/`],
    ['another port', `${HOST}:8443/callbacks/source`],
    ['the default port of http', `${HOST}:80/callbacks/source`],
    ['http', 'http://hooks.example.test/callbacks/source'],
    ['another host', 'https://hooks.example.tes/callbacks/source'],
    ['capitals in the path', `${HOST}/Callbacks/source`],
    ['the query', `${HOST}/callbacks/source?a=1`],
    ['a fragment', `${HOST}/callbacks/source#a`],
  ])('not %s', (_name, address) => {
    expect(reasonOf(sourceFor('voice').read(v3(address, { url: `${HOST}/callbacks/source?a=1` })))).toBe(
      'signature_mismatch',
    )
  })

  test('a URL that is none harms nothing', () => {
    for (const url of [
      '',
      '/',
      '?',
      'https://',
      'https://[::1',
      `https://${'@'.repeat(10_000)}/`,
      '/callbacks/source?%',
    ]) {
      expect(reasonOf(sourceFor('voice').read(v3(`${HOST}/x`, { url })))).toBe('signature_mismatch')
    }
  })
})

describe('voice signatures', () => {
  const url = vectors.urls.body_independence.base_url
  const source = sourceFor('voice', { secrets: [secrets.voice] })

  test.each(vectors.urls.negative)('refused: $name', ({ headers, reason }) => {
    expect(reasonOf(source.read(requestOf({ url, body: CALLBACK, headers })))).toBe(reason)
  })

  test('one signature fits any body, so the proof is of the URL and the nonce is to be remembered', () => {
    const { nonce, v3: signature, bodies } = vectors.urls.body_independence
    const headers = { 'x-vobiz-signature-v3': signature, 'x-vobiz-signature-v3-nonce': nonce }
    for (const body of bodies) {
      expect(genuine(source.read(requestOf({ url, body, headers })))).toMatchObject([
        { verifiedBy: 'url', nonces: [nonce] },
      ])
    }
  })

  test('the query, which is not signed, is part of a name only if a nonce shows what is sent again', () => {
    const body = 'CallUUID=c1&Digits=1'
    const menus = [`${url}?menu=1`, `${url}?menu=2`]
    const oldest = { 'X-Vobiz-Signature': mac(`${url}CallUUIDc1Digits1`, secrets.voice, 'sha1') }
    const namesOf = (requests: ReturnType<typeof requestOf>[]) =>
      new Set(requests.map((request) => genuine(source.read(request))[0]!.callbackId))
    expect(namesOf(menus.map((menu) => v3(url, { url: menu, body }))).size).toBe(2)
    expect(namesOf(menus.map((menu) => requestOf({ url: menu, body, headers: oldest }))).size).toBe(1)
  })

  test('the parent account’s token verifies the -MA- signatures', () => {
    const { nonce, ma_v2, ma_v3 } = vectors.urls.parent_variant
    const parent = sourceFor('voice', { secrets: [secrets.parent] })
    for (const [version, signature] of [
      ['v2', ma_v2],
      ['v3', ma_v3],
    ] as const) {
      const headers = { [`x-vobiz-signature-ma-${version}`]: signature, [`x-vobiz-signature-${version}-nonce`]: nonce }
      expect(genuine(parent.read(requestOf({ url, body: CALLBACK, headers })))).toMatchObject([{ nonces: [nonce] }])
      expect(reasonOf(source.read(requestOf({ url, body: CALLBACK, headers })))).toBe('signature_mismatch')
    }
  })

  test('the oldest signature, as Plivo makes it, is over the fields too', () => {
    const { v1, params } = vectors.urls.v1_assumed_plivo_style
    const body = new URLSearchParams(params).toString()
    const read = (signature: string, sent = body, to = url) =>
      source.read(requestOf({ url: to, body: sent, headers: { 'X-Vobiz-Signature': signature } }))
    expect(genuine(read(v1))).toMatchObject([{ verifiedBy: 'url', type: 'Hangup' }])
    expect(genuine(read(v1))[0]!.nonces).toBeUndefined()
    expect(reasonOf(read(v1, `${body}x`))).toBe('signature_mismatch')
    expect(reasonOf(read(mac(`${url}CallUUIDc1EventHangup`)))).toBe('genuine')
    expect(reasonOf(read(mac(`${url}?a=1CallUUIDc1EventHangup`, secrets.voice, 'sha1'), body, `${url}?a=1`))).toBe(
      'genuine',
    )
    expect(reasonOf(read(v1, `${body}&Filler=${'x'.repeat(70_000)}`))).toBe('signature_unreadable')
    // One over no fields at all would fit any JSON.
    expect(reasonOf(read(mac(url), '{"Event":"Hangup","CallUUID":"forged"}'))).toBe('signature_unreadable')
    for (const bad of ['x', v1.slice(0, -4), `${v1}, ${v1}`]) expect(reasonOf(read(bad))).toBe('signature_unreadable')
  })

  test('a header may list signatures, and any version that fits is enough', () => {
    const good = mac(`${url}.123`)
    const read = (headers: Record<string, string>) => reasonOf(source.read(requestOf({ url, body: CALLBACK, headers })))
    expect(read({ 'X-Vobiz-Signature-V3': `${mac('x')},${good}`, 'X-Vobiz-Signature-V3-Nonce': '123' })).toBe('genuine')
    expect(read({ 'X-Vobiz-Signature-V3': `${mac('x')}, ${good}, ${good}`, 'X-Vobiz-Signature-V3-Nonce': '123' })).toBe(
      'genuine',
    )
    expect(
      read({
        'X-Vobiz-Signature-V3': mac('x'),
        'X-Vobiz-Signature-V3-Nonce': '123',
        'X-Vobiz-Signature-V2': mac(`${url}7`),
        'X-Vobiz-Signature-V2-Nonce': '7',
      }),
    ).toBe('genuine')
  })

  test.each(['aB3+/w==', 'a:b-d_e', 'x'.repeat(128)])('a nonce of V3 may be %j, and V2 cannot borrow it', (nonce) => {
    expect(genuine(source.read(v3(url, { nonce })))).toMatchObject([{ verifiedBy: 'url', nonces: [nonce] }])
    const headers = { 'x-vobiz-signature-v2': mac(`${url}.${nonce}`), 'x-vobiz-signature-v2-nonce': `.${nonce}` }
    expect(reasonOf(source.read(requestOf({ url, body: CALLBACK, headers })))).toBe('signature_unreadable')
  })

  test.each(['x'.repeat(129), 'a b', 'a,b', '"a"', 'é', '?', '5.7'])('a nonce of V3 is not %j', (nonce) => {
    expect(reasonOf(source.read(v3(url, { nonce })))).toBe('signature_unreadable')
  })

  test('unsigned is a normal state, but never without another secret', () => {
    expect(() => sourceFor('voice', { allowUnsigned: true })).toThrow('allowUnsigned')
    const unsigned = sourceFor('voice', {
      allowUnsigned: true,
      headers: { 'X-API-Key': 'key', 'X-Application-ID': 'app' },
    })
    const read = (headers: Record<string, string>) => unsigned.read(requestOf({ url, body: CALLBACK, headers }))
    const keys = { 'x-api-key': 'key', 'x-application-id': 'app' }
    expect(genuine(read(keys))).toMatchObject([{ verifiedBy: 'secret', callbackId: 'Hangup:c1' }])
    expect(reasonOf(read({ 'x-api-key': 'key' }))).toBe('credentials_missing')
    expect(reasonOf(read({ ...keys, 'x-api-key': 'other' }))).toBe('credentials_mismatch')
    expect(reasonOf(read({ ...keys, 'x-vobiz-signature-v3': mac('x'), 'x-vobiz-signature-v3-nonce': '1' }))).toBe(
      'signature_mismatch',
    )
    expect(reasonOf(read({ ...keys, 'x-vobiz-signature': 'x' }))).toBe('signature_unreadable')
  })

  test('an empty header is no signature, as in the vendor’s own receiver', () => {
    const unsigned = sourceFor('voice', { allowUnsigned: true, headers: { 'X-API-Key': 'key' } })
    const headers = {
      'x-api-key': 'key',
      'x-vobiz-signature-v3': '',
      'x-vobiz-signature-v2': '',
      'x-vobiz-signature': '',
    }
    expect(genuine(unsigned.read(requestOf({ url, body: CALLBACK, headers })))).toMatchObject([
      { verifiedBy: 'secret' },
    ])
    expect(reasonOf(source.read(requestOf({ url, body: CALLBACK, headers })))).toBe('signature_missing')
    const v2 = { ...headers, 'x-vobiz-signature-v2': mac(`${url}7`), 'x-vobiz-signature-v2-nonce': '7' }
    expect(genuine(source.read(requestOf({ url, body: CALLBACK, headers: v2 })))).toMatchObject([{ nonces: ['7'] }])
  })

  test('which of the secrets verified is known, and in shadow mode what would have been refused', () => {
    const rotating = sourceFor('voice', { secrets: ['new', secrets.voice] })
    expect(genuine(rotating.read(v3(url)))).toMatchObject([{ secret: 2 }])
    const shadow = sourceFor('voice', { secrets: ['new'], shadow: true })
    expect(genuine(shadow.read(v3(url)))).toMatchObject([{ wouldRefuse: 'signature_mismatch', verifiedBy: 'none' }])
  })

  test('the public URL must be known', () => {
    expect(() => sourceOf(vobiz({ secrets: [secrets.voice] }), {})).toThrow('PUBLIC_BASE_URL')
  })
})

describe('what a voice callback is called', () => {
  const source = sourceOf(vobiz({ basicAuth: { username: 'u', password: 'p' } }))!
  const authorization = `Basic ${Buffer.from('u:p').toString('base64')}`
  const read = (fields: Record<string, string>) => {
    const reading = source.read(requestOf({ body: new URLSearchParams(fields).toString(), headers: { authorization } }))
    return reading.kind === 'read' ? reading.callbacks[0]! : reading
  }
  const call = { CallUUID: 'c' }

  test.each([
    [{ Event: 'Hangup', ...call }, 'Hangup:c'],
    [{ Event: 'DialAnswer', ...call, DialBLegUUID: 'b' }, 'DialAnswer:c:b'],
    [{ Event: 'ConferenceExit', ...call, ConferenceUUID: 'f', ConferenceMemberID: '7' }, 'ConferenceExit:c:f:7'],
    [{ Event: 'Record', ...call, ConferenceUUID: 'f', RecordingID: 'r' }, 'Record:c:f:r'],
    [
      { Event: 'PlayedStream', ...call, StreamID: 's', Name: 'first', Timestamp: '2026-01-01 05:30:10' },
      'PlayedStream:c:s:first:2026-01-01%2005%3A30%3A10',
    ],
    [{ Event: 'Ring', ...call, Name: 'x', Timestamp: 'y' }, 'Ring:c'],
    [{ Event: 'a:b', CallUUID: 'c:d', RecordingID: 'e' }, 'a%3Ab:c%3Ad:e'],
    [{ DialStatus: 'completed', ...call, DialBLegUUID: 'b' }, 'DialAction:c:b'],
  ])('%o', (fields, callbackId) => {
    expect(read(fields as Record<string, string>)).toMatchObject({ kind: 'genuine', callbackId })
  })

  test('without Event or CallUUID, its bytes name it; without anything, it is none', () => {
    expect(read(call)).toMatchObject({ type: '', callId: 'c', previousName: {} })
    expect(read({ Event: 'Hangup' })).toMatchObject({ type: 'Hangup', previousName: {} })
    expect(read({ Event: '', CallUUID: '' })).toMatchObject({ kind: 'unreadable', reason: 'callback_id_missing' })
    expect(read({ Event: 'NeverSeen', ...call })).toMatchObject({ type: 'NeverSeen', previousName: {} })
    expect(read({ Event: '__proto__', CallUUID: 'constructor' })).toMatchObject({ previousName: {} })
  })

  test.each([
    ['Redirect', {}],
    ['Transfer', {}],
    ['DialAction', { DialStatus: 'busy', DialBLegUUID: '' }],
    ['ConferenceRemoteSounds', { ConferenceUUID: '', ConferenceMemberID: '' }],
    ['DialDigitsMatch', { DialBLegUUID: 'b', DialDigitsMatch: '1', DialDigitsPressedBy: 'aleg' }],
    ['ConferenceDigitsMatch', { ConferenceUUID: 'f', ConferenceMemberID: '7', ConferenceDigitsMatch: '1' }],
  ])('%s can come again in a call, and is no repetition unless it is the same to the byte', (Event, fields) => {
    const at = (timestamp: string) => read({ Event, ...call, ...fields, timestamp }) as GenuineCallback
    expect(at('2026-01-01T00:00:00Z').callbackId).toBe(at('2026-01-01T00:00:00Z').callbackId)
    expect(at('2026-01-01T00:00:05Z').callbackId).not.toBe(at('2026-01-01T00:00:00Z').callbackId)
    expect(at('2026-01-01T00:00:00Z')).toMatchObject({ type: Event, callId: 'c', previousName: {} })
  })

  test('however long its fields are, it has a name, which is short enough to be indexed', () => {
    const nameOf = (Name: string) => read({ Event: 'PlayedStream', ...call, StreamID: 's', Name })
    const greeting = 'नमस्ते, आपकी कॉल हमारे लिए महत्वपूर्ण है, कृपया प्रतीक्षा करें, '.repeat(2)
    const played = [greeting, greeting, `${greeting}।`].map(
      (Name) => nameOf(Name) as { kind: string; callbackId: string },
    )
    for (const { kind, callbackId } of played) {
      expect(kind).toBe('genuine')
      expect(callbackId).toMatch(/^PlayedStream:c:s:%E0%A4%A8[\w%]{400,}:sha256=[0-9a-f]{64}$/)
      expect(callbackId).toHaveLength(512)
    }
    expect(played[1]).toEqual(played[0])
    expect(played[2]!.callbackId).not.toBe(played[0]!.callbackId)
    const longest = 'x'.repeat(512 - 'PlayedStream:c:s:'.length)
    expect(nameOf(longest)).toMatchObject({ callbackId: `PlayedStream:c:s:${longest}` })
    expect(nameOf(`${longest}x`)).toMatchObject({ callbackId: expect.stringMatching(/x:sha256=[0-9a-f]{64}$/) })
  })

  test('what a caller enters in one menu and in the next are two events', () => {
    const entered = (fields: Record<string, string>) => read({ Event: 'Redirect', ...call, ...fields })
    const [first, second, said] = [entered({ Digits: '1' }), entered({ Digits: '2' }), entered({ Speech: 'yes' })]
    expect(first).toMatchObject({ kind: 'genuine', type: 'Redirect', previousName: {} })
    const ids = [first, second, said].map((callback) => (callback as { callbackId: string }).callbackId)
    expect(new Set(ids).size).toBe(3)
    // Nothing in time is told of, too, and is not the Redirect that may follow.
    const silent = entered({ InputType: 'dtmf', Digits: '', Speech: '' }) as { callbackId: string }
    expect(silent.callbackId).not.toBe((entered({}) as { callbackId: string }).callbackId)
    expect(read({ Event: 'Record', ...call, RecordingID: 'r', Digits: '#' })).toMatchObject({
      callbackId: 'Record:c:r',
    })
  })

  test('only times with a known zone count', () => {
    const received = new Date('2026-01-01T00:00:00Z')
    const times = {
      StartTime: '2025-12-31 05:30:00',
      EndTime: '2025-12-31 05:30:00',
      SessionStart: '2025-12-31 00:00:00.5',
    }
    expect(read({ Event: 'Hangup', ...call, ...times })).toMatchObject({ occurredAt: received })
    expect(read({ Event: 'Hangup', ...call, timestamp: '2025-12-31T01:02:03+05:30' })).toMatchObject({
      occurredAt: new Date('2025-12-30T19:32:03Z'),
    })
    expect(read({ Event: 'CallInitiated', ...call, ...times })).toMatchObject({
      occurredAt: new Date('2025-12-31T00:00:00.5Z'),
    })
    expect(read({ Event: 'CallInitiated', ...call, SessionStart: 'soon' })).toMatchObject({ occurredAt: received })
    expect(read({ Event: 'RecordStop', ...call, RecordingEndMs: '-1' })).toMatchObject({ occurredAt: received })
    expect(read({ Event: 'Record', ...call, RecordingStartMs: '1767139200500' })).toMatchObject({
      occurredAt: new Date('2025-12-31T00:00:00.5Z'),
    })
    // A position within the recording.
    expect(read({ Event: 'Record', ...call, RecordingStartMs: '500' })).toMatchObject({ occurredAt: received })
  })

  test('the payload has the decoded fields, and the answer keeps a call alive', () => {
    expect(read({ Event: 'StartApp', ...call, CallerName: '+91 0' })).toMatchObject({
      payload: '{"Event":"StartApp","CallUUID":"c","CallerName":"+91 0"}',
    })
    expect(source.answer).toEqual({ contentType: 'application/xml', body: '<Response><Wait length="60"/></Response>' })
    const answer = { contentType: 'text/xml', body: '<Response/>' }
    expect(sourceFor('voice', { answer }).answer).toEqual(answer)
    expect(sourceFor('trunk').answer.contentType).toBe('application/json')
  })
})

describe('signatures over the body', () => {
  test.each(vectors.rawBody)('$family', ({ family, key, raw_body: body, value }) => {
    const source = sourceFor(family as SchemeName, { secrets: [key] })
    const read = (signature: string | undefined, sent: string | Buffer = body) =>
      reasonOf(
        source.read(
          requestOf({ body: sent, headers: signature === undefined ? {} : { 'X-VoBiz-Signature': signature } }),
        ),
      )
    const prefix = value.startsWith('sha256=') ? 'sha256=' : ''
    const digest = value.slice(prefix.length)
    expect(read(value)).toBe('genuine')
    expect(read(prefix + digest.toUpperCase())).toBe('genuine')
    expect(read(undefined)).toBe('signature_missing')
    expect(read(value, `${body}\n`)).toBe('signature_mismatch')
    expect(read(value, Buffer.from(body, 'latin1'))).toBe('signature_mismatch')
    expect(read(prefix + hex('other', body))).toBe('signature_mismatch')
    expect(read(prefix + digest.slice(0, 62))).toBe('signature_mismatch')
    const wrong = [
      '',
      prefix + digest.slice(0, 63),
      prefix + 'z'.repeat(64),
      `${value}, ${value}`,
      ` ${value}`,
      ...(family === 'kyc' ? [] : [`sha256=${digest}`, Buffer.from(digest, 'hex').toString('base64')]),
    ]
    for (const signature of wrong) expect(read(signature)).toBe('signature_unreadable')
  })

  test.each([
    ['kyc', 'x-vobiz-signature'],
    ['whatsapp', 'x-webhook-signature'],
  ] as const)('%s: whatever the vendor’s own receiver takes is a signature', (scheme, header) => {
    const body = '{"event":"kyc.completed","event_id":"e"}'
    const digest = hex(secrets.voice, body)
    const asBase64 = (text: string) => Buffer.from(text, 'hex').toString('base64')
    const read = (signature: string) =>
      reasonOf(sourceFor(scheme).read(requestOf({ body, headers: { [header]: signature } })))
    const other = hex('other', body)
    for (const prefix of ['', 'sha256=', 'SHA256=']) {
      for (const written of [digest, digest.toUpperCase(), asBase64(digest)])
        expect(read(prefix + written)).toBe('genuine')
      for (const written of [other, asBase64(other)]) expect(read(prefix + written)).toBe('signature_mismatch')
      for (const written of ['', 'z'.repeat(64), asBase64(digest).slice(0, -1), asBase64(digest.slice(2))]) {
        expect(read(prefix + written)).toBe('signature_unreadable')
      }
    }
    expect(read(`sha1=${digest}`)).toBe('signature_unreadable')
    expect(read(`sha256=sha256=${digest}`)).toBe('signature_unreadable')
  })

  test.each(['trunk', 'kyc', 'whatsapp', 'ndnc', 'legacy'] as const)(
    '%s: what is no JSON object is unreadable',
    (scheme) => {
      const source = sourceFor(scheme)
      const read = (body: string) => {
        const { headers } = source.sign(
          { method: 'POST', url: HOST, headers: {}, body: Buffer.from(body) },
          { at: new Date('2026-01-01T00:00:00Z') },
        )
        const reading = source.read(requestOf({ body, headers }))
        return reading.kind === 'refused' ? reading : reading.callbacks[0]
      }
      for (const body of ['', ' ', '{', '[]', '[{}]', 'null', '"x"', '1', 'a=b', '{"a":1}}', '{"a":1}\u0000']) {
        expect(read(body)).toMatchObject({ kind: 'refused', as: 'unreadable', reason: 'unreadable_body' })
      }
      expect(read('{}')).toMatchObject({ kind: 'unreadable', reason: 'callback_id_missing' })
      expect(read(`{"a":${'['.repeat(100)}${']'.repeat(100)}}`)).toMatchObject({ reason: 'too_deep' })
      expect(read('{"new":true}')).toMatchObject({ kind: 'genuine', type: '', previousName: {} })
      for (const id of [null, true, [], {}, 1.5, '']) {
        const fields = { RequestID: id, session_id: id, event_id: id, call_id: id, Event: id, event: id }
        expect(read(JSON.stringify(fields))).toMatchObject({ kind: 'genuine', previousName: {} })
      }
    },
  )

  test('of a trunk webhook, what is signed goes before the headers beside it', () => {
    const source = sourceFor('trunk')
    const read = (body: string) =>
      genuine(
        source.read(
          requestOf({
            body,
            headers: {
              'x-vobiz-signature': hex(secrets.voice, body),
              'x-vobiz-event': 'Forged',
              'x-vobiz-request-id': 'f',
            },
          }),
        ),
      )
    expect(read('{"Event":"Hangup","RequestID":"r"}')).toMatchObject([{ callbackId: 'Hangup:r', type: 'Hangup' }])
    expect(read('{"CallUUID":"c"}')).toMatchObject([{ callbackId: 'Forged:f', callId: 'c' }])
  })

  test('each complaint of an NDNC request is a callback of its own', () => {
    const source = sourceFor('ndnc')
    const read = (body: string) =>
      source.read(requestOf({ body, headers: { 'x-vobiz-signature': hex(secrets.voice, body) } }))
    expect(read('{"complaints":[{"urn":"a"}, null ,{"urn":17},{"did":"1"},{}]}')).toMatchObject({
      kind: 'read',
      callbacks: [
        { kind: 'genuine', callbackId: 'a', type: 'ndnc.complaint' },
        { kind: 'unreadable', reason: 'callback_id_missing' },
        { kind: 'genuine', callbackId: '17' },
        { kind: 'genuine', previousName: {} },
        { kind: 'unreadable', reason: 'callback_id_missing' },
      ],
    })
    expect(read('{"complaints":[]}')).toEqual({ kind: 'read', callbacks: [] })
    for (const body of ['{"complaints":null}', '{"complaints":{}}', '{"complaints":"x"}']) {
      expect(read(body)).toMatchObject({ reason: 'unreadable_body' })
    }
  })
})

describe('legacy JSON', () => {
  const source = sourceFor('legacy', { secrets: [secrets.legacy] })

  test.each(vectors.legacyNegative)('$name', ({ name, headers, raw_body: body, verdict, now_unix }) => {
    const receivedAt = new Date(now_unix * 1000)
    const reading = source.read(requestOf({ body, headers, receivedAt }))
    const isAccepted = verdict === 'accept' || name === 'signature-upper-case'
    expect(reading.kind).toBe(isAccepted ? 'read' : 'refused')
    if (reading.kind === 'refused') expect(reading.as).toBe('forged')
  })

  test.each([
    [{ 'x-vobiz-timestamp': '1767225600' }, 'signature_missing'],
    [{ 'x-vobiz-signature': 'zz' }, 'timestamp_missing'],
    [{ 'x-vobiz-signature': 'zz', 'x-vobiz-timestamp': '1767225600.5' }, 'timestamp_unreadable'],
    [{ 'x-vobiz-signature': 'zz', 'x-vobiz-timestamp': '1767225600' }, 'signature_unreadable'],
  ])('of %j the reason says what is wrong', (headers, reason) => {
    expect(reasonOf(source.read(requestOf({ body: '{}', headers })))).toBe(reason)
  })

  test.each(vectors.legacyBodies)('verified as it came and as JavaScript prints it: $name', (vector) => {
    const body =
      'raw_body_base64' in vector ? Buffer.from(vector.raw_body_base64, 'base64') : Buffer.from(vector.raw_body)
    const read = (signature: string, sent = body) => {
      const reading = source.read(
        requestOf({ body: sent, headers: { 'x-vobiz-timestamp': vector.timestamp, 'x-vobiz-signature': signature } }),
      )
      return reading.kind === 'read' || reading.as === 'unreadable'
    }
    expect(read(vector.signature_over_raw)).toBe(true)
    if (typeof vector.signature_over_reserialised === 'string')
      expect(read(vector.signature_over_reserialised)).toBe(true)
    expect(read(vector.signature_over_raw, Buffer.concat([body, Buffer.from('x')]))).toBe(false)
  })

  test('the time limit can be changed, and holds in both directions', () => {
    const body = '{"event":"call.failed","call_id":"c"}'
    const headers = {
      'x-vobiz-timestamp': '1767225600',
      'x-vobiz-signature': hex(secrets.legacy, `1767225600.${body}`),
    }
    const read = (seconds: number, of = source) =>
      reasonOf(of.read(requestOf({ body, headers, receivedAt: new Date(1_767_225_600_000 + seconds * 1000) })))
    expect([-301, -300, 0, 300, 301].map((seconds) => read(seconds))).toEqual([
      'timestamp_out_of_tolerance',
      'genuine',
      'genuine',
      'genuine',
      'timestamp_out_of_tolerance',
    ])
    expect(read(3600, sourceFor('legacy', { secrets: [secrets.legacy], toleranceSeconds: 7200 }))).toBe('genuine')
  })

  test('a time limit is in whole seconds, as the documentation’s sample has it: our clock has a fraction', () => {
    const body = '{"event":"call.failed","call_id":"c"}'
    const headers = {
      'x-vobiz-timestamp': '1767225600',
      'x-vobiz-signature': hex(secrets.legacy, `1767225600.${body}`),
    }
    const read = (seconds: number) =>
      reasonOf(source.read(requestOf({ body, headers, receivedAt: new Date(1_767_225_600_000 + seconds * 1000) })))
    expect([-300.001, -299.001, 300.999, 301].map(read)).toEqual([
      'timestamp_out_of_tolerance',
      'genuine',
      'genuine',
      'timestamp_out_of_tolerance',
    ])
  })
})

describe('recordings', () => {
  const source = sourceOf(vobiz({ scheme: 'recording', basicAuth: { username: 'u', password: 'p' } }))!
  const headers = { authorization: `Basic ${Buffer.from('u:p').toString('base64')}` }
  const read = (body: string) => genuine(source.read(requestOf({ body, headers })))

  test('a recording and its transcription are two events, in either spelling', () => {
    expect(read('RecordingID=r&CallUUID=c')).toMatchObject([{ callbackId: 'recording:r', callId: 'c' }])
    expect(read('recording_id=r&call_uuid=c&transcription=hi')).toMatchObject([
      { callbackId: 'transcription:r', callId: 'c' },
    ])
    expect(read('{"recording_id":"r","TranscriptionText":"hi"}')).toMatchObject([{ callbackId: 'transcription:r' }])
    expect(read('Event=RecordStop&RecordingID=r')).toMatchObject([{ callbackId: 'RecordStop:r', type: 'RecordStop' }])
    expect(read('CallUUID=c')).toMatchObject([{ type: 'recording', previousName: {} }])
  })

  test('fields by GET, even if a body comes along', () => {
    const url = `${HOST}/callbacks/source?RecordingID=r&transcription_url=x`
    for (const body of ['', '{}']) {
      expect(genuine(source.read(requestOf({ method: 'GET', url, headers, body })))).toMatchObject([
        { callbackId: 'transcription:r' },
      ])
    }
  })
})
