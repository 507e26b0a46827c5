import { createHmac, generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { Webhook } from 'standardwebhooks'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import vectors from '../../test/vectors/generic.json' with { type: 'json' }
import { env } from '../config.ts'
import { generic } from './generic.ts'
import type { GenericOptions, GenericSignature } from './generic.ts'
import type { OutgoingRequest, Reading } from './provider.ts'

const at = new Date('2026-01-01T00:00:00Z')
const sample = generic.provider.schemes.configured.samples['demo.event']!

function verdictOf(reading: Reading): string {
  if (reading.kind === 'refused') return reading.reason
  const [callback] = reading.callbacks
  return callback!.kind === 'genuine' ? 'genuine' : callback!.reason
}

interface Group {
  options: unknown
  now: string
  headers: object
  vectors: { name: string; body: string; headers: object; expect: string }[]
}

const known = Object.entries<Group>(vectors).map(([provider, group]) => ({ provider, ...group }))

describe.each(known)('$provider, described in configuration', (group) => {
  const source = sourceOf(generic(group.options as GenericOptions))!
  test.each(group.vectors)('$name', (vector) => {
    const headers: Record<string, string> = { ...group.headers, ...vector.headers }
    const request = requestOf({ body: vector.body, headers, receivedAt: new Date(group.now) })
    expect(verdictOf(source.read(request))).toBe(vector.expect)
  })
})

test('the reference library of Standard Webhooks signs, and one byte more is refused', () => {
  const source = sourceOf(generic(vectors.standardWebhooks.options as GenericOptions))!
  const body = '{"type":"call.completed","timestamp":"2026-01-01T00:00:00Z"}'
  const headers = {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(at.getTime() / 1000),
    'webhook-signature': new Webhook(vectors.standardWebhooks.options.secrets).sign('msg_1', at, body),
  }
  expect(source.read(requestOf({ headers, body }))).toMatchObject({
    callbacks: [{ kind: 'genuine', callbackId: 'msg_1', type: 'call.completed', occurredAt: at, verifiedBy: 'body' }],
  })
  expect(verdictOf(source.read(requestOf({ headers, body: `${body} ` })))).toBe('signature_mismatch')
})

const plain: GenericSignature = { algorithm: 'hmac-sha256', header: 'X-Signature', encoding: 'hex', text: '{body}' }
const signed = (signature: Partial<GenericSignature>, rest: Partial<GenericOptions> = {}): GenericOptions => ({
  secrets: 'demo-secret-0001',
  signature: { ...plain, ...signature },
  ...rest,
})
const timestamp = { header: 'X-Timestamp', format: 'unix' } as const

describe('what a source signs it accepts, and neither forgery nor change', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const jwk = { ...publicKey.export({ format: 'jwk' }), ...privateKey.export({ format: 'jwk' }) }
  const asBase64 = (text: string) => Buffer.from(text, 'base64url').toString('base64')
  const spki = publicKey.export({ format: 'der', type: 'spki' })
  const ed25519 = { algorithm: 'ed25519', encoding: 'base64', text: '{timestamp}|{body}', timestamp } as const
  const cases: { name: string; options: GenericOptions; secret?: string }[] = [
    ...(['hmac-md5', 'hmac-sha1', 'hmac-sha256', 'hmac-sha384', 'hmac-sha512', 'md5'] as const).flatMap((algorithm) =>
      (['hex', 'base64'] as const).map((encoding) => ({
        name: `${algorithm} in ${encoding}`,
        options: signed({ algorithm, encoding }),
      })),
    ),
    { name: 'a prefix', options: signed({ prefix: 'sha256=' }) },
    { name: 'a secret in hex', options: signed({ secretEncoding: 'hex' }, { secrets: '00ff10' }) },
    { name: 'a secret in base64', options: signed({ secretEncoding: 'base64' }, { secrets: 'AP8Q' }) },
    {
      name: 'milliseconds',
      options: signed({ text: '{timestamp}.{body}', timestamp: { ...timestamp, format: 'unix-ms' } }),
    },
    { name: 'ISO 8601', options: signed({ text: '{timestamp}.{body}', timestamp: { ...timestamp, format: 'iso' } }) },
    { name: 'a time signed as a header', options: signed({ text: '{header:x-timestamp}{body}', timestamp }) },
    { name: 'time and signature in one header', options: signed(vectors.stripe.options.signature as GenericSignature) },
    {
      name: 'method, path, type and hash',
      options: signed({
        text: '{method}\n{md5base64:body}\n{header:Content-Type}\nx-timestamp:{timestamp}\n{path}',
        timestamp: { ...timestamp, format: 'iso' },
      }),
    },
    { name: 'raw hash of the body', options: signed({ text: '{timestamp}\n{url}\n{sha256:body}', timestamp }) },
    { name: 'Ed25519, raw key', options: signed(ed25519, { secrets: asBase64(jwk.x!) }), secret: asBase64(jwk.d!) },
    { name: 'Ed25519, SPKI', options: signed(ed25519, { secrets: spki.toString('base64') }), secret: asBase64(jwk.d!) },
    {
      name: 'Ed25519, hex',
      options: signed(
        { ...ed25519, secretEncoding: 'hex' },
        { secrets: Buffer.from(jwk.x!, 'base64url').toString('hex') },
      ),
      secret: asBase64(jwk.d!),
    },
  ]
  test.each(cases)('$name', ({ options, secret }) => {
    const source = sourceOf(generic(options))!
    const by = secret === undefined ? {} : { secret }
    expect(signAndRead(source, sample, by)).toMatchObject({ callbacks: [{ kind: 'genuine', verifiedBy: 'body' }] })
    expect(signAndRead(source, sample, { ...by, forged: true })).toMatchObject({ reason: 'signature_mismatch' })
    const tamper = (request: OutgoingRequest) => ({ ...request, body: Buffer.concat([request.body, Buffer.from(' ')]) })
    expect(signAndRead(source, sample, { ...by, tamper })).toMatchObject({ reason: 'signature_mismatch' })
  })
})

test('base64 is taken in either alphabet, padded or not, and no other text for the same bytes', () => {
  const source = sourceOf(generic(signed({ encoding: 'base64' })))!
  const verdictFor = (signature: string, body: string) =>
    verdictOf(source.read(requestOf({ body, headers: { 'x-signature': signature } })))
  // One whose signature has both digits in which the alphabets differ.
  const bodies = Array.from({ length: 1000 }, (_, index) => `{"n":${index}}`)
  const signatureOf = (body: string) => createHmac('sha256', 'demo-secret-0001').update(body).digest('base64')
  const body = bodies.find((text) => /\+.*\//.test(signatureOf(text)))!
  const base64 = signatureOf(body)
  const base64url = base64.replaceAll('+', '-').replaceAll('/', '_')
  for (const written of [base64, base64url, base64.slice(0, -1), base64url.slice(0, -1)]) {
    expect(verdictFor(written, body)).toBe('genuine')
    expect(verdictFor(written, `${body} `)).toBe('signature_mismatch')
  }
  // The last digit holds two bits that say nothing.
  const twin = base64.slice(0, -2) + String.fromCodePoint(base64.codePointAt(42)! + 1)
  for (const written of [twin, `${twin}=`, `${base64}=`, `=${base64}`, `${base64.slice(0, 9)} ${base64.slice(9)}`]) {
    expect(verdictFor(written, body)).toBe('signature_unreadable')
  }
})

test('within the time limit, no fraction of a second refuses a time in milliseconds', () => {
  const source = sourceOf(
    generic(
      signed({ text: '{timestamp}.{body}', timestamp: { ...timestamp, format: 'unix-ms' } }, { toleranceSeconds: 5 }),
    ),
  )!
  const request = { method: 'POST', url: '', headers: {}, body: Buffer.from('{}') } as const
  const signedAt = new Date(at.getTime() + 300)
  const { headers, body } = source.sign(request, { at: signedAt })
  const verdicts = [-5000, 5000, 5700].map((ms) =>
    verdictOf(source.read(requestOf({ headers, body, receivedAt: new Date(signedAt.getTime() + ms) }))),
  )
  expect(verdicts).toEqual(['genuine', 'genuine', 'timestamp_out_of_tolerance'])
})

test.each(['1767225600000', '1767225600000.5', '+1767225600000', '1.7672256e12'])(
  'a time in milliseconds is digits and nothing else: %j',
  (written) => {
    const source = sourceOf(
      generic(signed({ text: '{timestamp}.{body}', timestamp: { ...timestamp, format: 'unix-ms' } })),
    )!
    const signature = createHmac('sha256', 'demo-secret-0001').update(`${written}.{}`).digest('hex')
    const headers = { 'x-timestamp': written, 'x-signature': signature }
    expect(verdictOf(source.read(requestOf({ headers, body: '{}', receivedAt: at })))).toBe(
      /^\d+$/.test(written) ? 'genuine' : 'timestamp_unreadable',
    )
  },
)

describe('what the proof covers', () => {
  const coverOf = (text: string, rest: Partial<GenericOptions> = {}, method: 'GET' | 'POST' = 'POST') => {
    const reading = signAndRead(sourceOf(generic(signed({ text }, rest)))!, { ...sample, method })
    const [callback] = reading.kind === 'read' ? reading.callbacks : []
    return callback?.kind === 'genuine' ? callback.verifiedBy : reading
  }
  test.each([
    ['{url}{body}', 'body'],
    ['{sha512hex:body}', 'body'],
    ['{url}', 'url'],
    ['{url}{header:x-event-id}', 'url'],
    ['{header:X-Event-Id}', 'id'],
    ['{path}{header:x-event-id}', 'id'],
    ['{header:x-event-type}', 'secret'],
    ['{path}', 'secret'],
  ] as const)('%s: %s', (text, covers) => {
    expect(coverOf(text, { callbackId: { header: 'X-Event-ID' } })).toBe(covers)
  })
  test('an id that is not signed is not covered', () => {
    expect(coverOf('{header:x-event-id}', { callbackId: { json: '/id' } })).toBe('secret')
  })
  test('of a GET, a signed body covers nothing, but the URL does', () => {
    expect(coverOf('{url}{body}', { methods: ['GET'], callbackId: { header: 'x-event-id' } }, 'GET')).toBe('url')
  })
})

describe('what a callback says', () => {
  const token = { urlTokens: 'token' }
  const callbacksOf = (options: GenericOptions, request: Parameters<typeof requestOf>[0]) => {
    const reading = sourceOf(generic({ ...token, ...options }))!.read(requestOf(request))
    return reading.kind === 'read' ? reading.callbacks : reading.reason
  }

  test('by JSON pointer, header and field', () => {
    const options: GenericOptions = {
      callbackId: [{ json: '/data/id' }, { header: 'X-Attempt-Of' }, { field: 'kind' }],
      type: [{ field: 'kind' }, { json: '/data/state' }],
      occurredAt: { json: '/data/at', format: 'unix-ms' },
      callId: { json: '/data/call' },
    }
    const body = '{"kind":"call","data":{"id":9007199254740993,"state":"ended","at":1767225600123,"call":"c1"}}'
    expect(callbacksOf(options, { body, headers: { 'x-attempt-of': 'a:b' } })).toMatchObject([
      {
        callbackId: '9007199254740993:a%3Ab:call',
        type: 'call.ended',
        occurredAt: new Date(1767225600123),
        callId: 'c1',
        raw: Buffer.from(body),
      },
    ])
  })
  test('a type of several parts has those that are there', () => {
    const options: GenericOptions = { type: [{ field: 'kind' }, { json: '/data/state' }] }
    expect(callbacksOf(options, { body: '{"data":{"state":"ended"}}' })).toMatchObject([{ type: 'ended' }])
  })
  test('a missing part of an id does not make two ids one', () => {
    const options: GenericOptions = { callbackId: [{ json: '/a' }, { json: '/b' }, { json: '/c' }] }
    const idOf = (body: string) => callbacksOf(options, { body })
    expect(idOf('{"a":"x","b":"y"}')).toMatchObject([{ callbackId: 'x:y' }])
    expect(idOf('{"a":"x","c":"y"}')).toMatchObject([{ callbackId: 'x::y' }])
    expect(idOf('{"b":"x","c":"y"}')).toBe('callback_id_missing')
  })
  test('of several fields a name is made, however long they are; a single id stays as it came, or is none', () => {
    const body = JSON.stringify({ id: 'x'.repeat(513) })
    expect(callbacksOf({ callbackId: [{ json: '/id' }, { json: '/b' }] }, { body })).toMatchObject([
      { kind: 'genuine' },
    ])
    expect(callbacksOf({ callbackId: { json: '/id' } }, { body })).toMatchObject([{ reason: 'callback_id_unreadable' }])
  })
  test.each(['{}', '{"id":null}', '{"id":""}', '{"id":true}', '{"id":1.5}', '{"id":{}}', '{"id":[1]}', '{"ID":"x"}'])(
    'an id that is described must be there: %s',
    (body) => {
      expect(callbacksOf({ callbackId: { json: '/id' } }, { body })).toBe('callback_id_missing')
    },
  )
  test('without a description its bytes name it', () => {
    expect(callbacksOf({}, { body: '{"a":1}' })).toMatchObject([
      { callbackId: expect.stringMatching(/^body:/), type: '' },
    ])
  })
  test('the query tells apart what its bytes name: the same key in two menus', () => {
    const nameOf = (query: string) => {
      const url = `https://h.example/callbacks/s${query}`
      const [callback] = callbacksOf({}, { url, body: 'CallSid=CA1&Digits=1' }) as { callbackId: string }[]
      return callback!.callbackId
    }
    const names = ['', '?', '?menu=1', '?menu=2', '?menu=1'].map(nameOf)
    expect(names[1]).toBe(names[0])
    expect(names[4]).toBe(names[2])
    expect(new Set(names).size).toBe(3)
  })
  test('a query that is not signed is no part of the name: it could be anybody’s', () => {
    const nameFor = (text: string, query: string) => {
      const source = sourceOf(generic(signed({ text })))!
      const { headers, body } = source.sign({ method: 'POST', url, headers: {}, body: Buffer.from('{}') }, { at })
      return source.read(requestOf({ url: `${url}${query}`, headers, body }))
    }
    const url = 'https://hooks.example.test/callbacks/source'
    for (const text of ['{body}', '{path}{body}']) {
      const plainly = nameFor(text, '')
      expect(plainly).toMatchObject({ callbacks: [{ kind: 'genuine' }] })
      expect(nameFor(text, '?menu=1')).toEqual(plainly)
    }
  })
  test('a form, and the query of a GET', () => {
    const options: GenericOptions = { methods: ['GET', 'POST'], callbackId: { field: 'id' }, type: 'sms' }
    expect(callbacksOf(options, { body: 'id=a%2B1&x=2' })).toMatchObject([
      { callbackId: 'a+1', type: 'sms', payload: '{"id":"a+1","x":"2"}' },
    ])
    expect(callbacksOf(options, { method: 'GET', url: 'https://h.example/callbacks/s?id=7', body: '' })).toMatchObject([
      { callbackId: '7', payload: '{"id":"7"}' },
    ])
  })
  test.each([
    ['1767225600', '2026-01-01T00:00:00.000Z'],
    ['1767225600123', '2026-01-01T00:00:00.123Z'],
    ['2026-01-01T01:00:00+01:00', '2026-01-01T00:00:00.000Z'],
    ['2026-01-01 00:00:00', '2030-01-01T00:00:00.000Z'],
    ['soon', '2030-01-01T00:00:00.000Z'],
    ['2024-02-29T00:00:08Z', '2024-02-29T00:00:08.000Z'],
    ['2026-02-29T00:00:08Z', '2030-01-01T00:00:00.000Z'],
    ['2026-04-31T00:00:08+0530', '2030-01-01T00:00:00.000Z'],
    ['2026-01-02T24:00:00Z', '2030-01-01T00:00:00.000Z'],
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z'],
    ['1969-12-31T23:59:59Z', '2030-01-01T00:00:00.000Z'],
    ['2999-12-31T23:59:59Z', '2999-12-31T23:59:59.000Z'],
    ['3000-01-01T00:00:00Z', '2030-01-01T00:00:00.000Z'],
  ])('the time %s is %s', (time, expected) => {
    const request = { body: JSON.stringify({ time }), receivedAt: new Date('2030-01-01T00:00:00Z') }
    expect(callbacksOf({ occurredAt: { field: 'time' } }, request)).toMatchObject([{ occurredAt: new Date(expected) }])
  })
  test('a batch gives one callback each, with its own bytes and its own verdict', () => {
    const options: GenericOptions = { batch: '/data/list', callbackId: { json: '/id' }, type: { header: 'X-Type' } }
    const headers = { 'x-type': 'report' }
    expect(callbacksOf(options, { headers, body: '{"data":{"list":[ {"id": 1} ,null,{"id":"b"}]}}' })).toMatchObject([
      { callbackId: '1', type: 'report', raw: Buffer.from('{"id": 1}') },
      { kind: 'unreadable', reason: 'callback_id_missing' },
      { callbackId: 'b' },
    ])
    expect(callbacksOf({ ...options, batch: '' }, { body: '[{"id":2}]' })).toMatchObject([{ callbackId: '2' }])
    expect(callbacksOf(options, { body: '{"id":"alone"}' })).toMatchObject([{ callbackId: 'alone' }])
    expect(callbacksOf(options, { body: '{"data":{"list":[]}}' })).toEqual([])
  })
  test('an envelope of a batch is read again', () => {
    for (const batch of ['', '/results', '/a~1b/c']) {
      const source = sourceOf(generic({ ...token, batch, callbackId: { json: '/id' } }))!
      const body = source.envelope!([Buffer.from('{"id":1}'), Buffer.from('{"id":2}')])
      expect(source.read(requestOf({ body }))).toMatchObject({ callbacks: [{ callbackId: '1' }, { callbackId: '2' }] })
    }
  })
  test.each(['', '{', '[', '\u0000{', '['.repeat(100)])('no throw for %j', (body) => {
    expect(() => callbacksOf({ callbackId: { json: '/id' }, batch: '' }, { body })).not.toThrow()
  })
})

test('signatures over bytes that are no UTF-8, and over headers as they came', () => {
  const body = Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xff, 0x22, 0x7d])
  const name = Buffer.from([0xe9, 0x21])
  const signature = createHmac('sha256', 'demo-secret-0001').update(name).update(body).digest('hex')
  const headers = { 'x-signature': signature, 'x-name': name.toString('latin1') }
  expect(
    verdictOf(sourceOf(generic(signed({ text: '{header:X-Name}{body}' })))!.read(requestOf({ body, headers }))),
  ).toBe('genuine')
})

test('braces are written twice', () => {
  const signature = createHmac('sha256', 'demo-secret-0001').update('{body}={}').digest('hex')
  const source = sourceOf(generic(signed({ text: '{{body}}={body}' })))!
  expect(verdictOf(source.read(requestOf({ body: '{}', headers: { 'x-signature': signature } })))).toBe('genuine')
})

test('any of several secrets, and the account whose secret it is', () => {
  const by = (secret: string) => signAndRead(source, sample, { secret })
  const source = sourceOf(
    generic({ signature: plain, secrets: ['new', 'old'], accounts: [{ accountId: 'acme', secrets: 'theirs' }] }),
  )!
  expect(by('old')).toMatchObject({ callbacks: [{ kind: 'genuine', accountId: '', secret: 2 }] })
  expect(by('theirs')).toMatchObject({ callbacks: [{ kind: 'genuine', accountId: 'acme', secret: 1 }] })
  expect(by('none')).toMatchObject({ reason: 'signature_mismatch' })
})

describe('what is wrong is said when the configuration is loaded', () => {
  const token = { urlTokens: 'token' }
  const cases: [string, unknown, string][] = [
    ['nothing at all', {}, 'nothing proves a request'],
    [
      'secrets without a signature',
      { secrets: 'xyz-secret' },
      'secrets: describe signature, which they are for, or leave',
    ],
    ['a signature without secrets', { signature: plain, ...token }, 'signature needs secrets or accounts'],
    ['secrets that are not set', signed({}, { ...token, secrets: env('UNSET') }), 'none of its secrets is set'],
    ['an empty secret', signed({}, { secrets: '' }), 'an empty text is no secret'],
    ['a misspelt option', { ...token, signatur: plain }, 'signatur'],
    ['a misspelt part', signed({ headr: 'x' } as never), 'signature'],
    ['an unknown algorithm', signed({ algorithm: 'sha256' as never }), 'signature.algorithm'],
    [
      'an unknown placeholder',
      signed({ text: '{body}{nonce}' }),
      'holds {nonce}, which is none of {body}, {timestamp}',
    ],
    ['an unknown hash', signed({ text: '{sha3hex:body}' }), 'holds {sha3hex:body}'],
    ['a header without name', signed({ text: '{body}{header:}' }), 'holds {header:}'],
    ['a brace that never ends', signed({ text: '{body' }), 'a single "{"'],
    ['a text about nothing', signed({ text: 'hello' }), 'holds nothing of the request'],
    ['an empty text', signed({ text: '' }), 'holds nothing of the request'],
    ['only the time', signed({ text: '{timestamp}', timestamp }), 'holds nothing of the request'],
    ['a time that is not described', signed({ text: '{timestamp}.{body}' }), 'add signature.timestamp'],
    ['a time that is not signed', signed({ timestamp }), 'lacks {timestamp}'],
    ['a tolerance without a time', signed({}, { toleranceSeconds: 5 }), 'toleranceSeconds needs signature.timestamp'],
    [
      'a tolerance that is no number',
      signed({ text: '{timestamp}{body}', timestamp }, { toleranceSeconds: Number.NaN }),
      'toleranceSeconds',
    ],
    [
      'one header for two, unseparated',
      signed({ text: '{timestamp}{body}', timestamp: { ...timestamp, header: 'x-signature' } }),
      'share a header',
    ],
    [
      'a signature that signs itself',
      signed({ text: '{body}{header:x-signature}' }),
      'the header that carries the signature',
    ],
    ['GET with a signed body', signed({}, { methods: ['GET'] }), 'add {url} to signature.text'],
    [
      'one Authorization for two',
      signed({ header: 'Authorization' }, { bearerTokens: 't' }),
      'all need the header Authorization',
    ],
    ['a fixed signature', signed({}, { headers: { 'x-signature': 'x' } }), 'asks for a fixed value'],
    [
      'an id that is a password',
      { headers: { 'X-Key': 'k' }, callbackId: { header: 'x-key' } },
      'carries a credential',
    ],
    [
      'an id in the header of passwords',
      signed({}, { callbackId: [{ json: '/id' }, { header: 'Authorization' }] }),
      'carries a credential',
    ],
    ['a URL that is not known', signed({ text: '{path}{body}' }), 'PUBLIC_BASE_URL'],
    ['unsigned requests for anybody', signed({}, { allowUnsigned: true }), 'allowUnsigned needs urlTokens'],
    ['allowUnsigned without signature', { ...token, allowUnsigned: true }, 'allowUnsigned needs signature'],
    ['a pointer that is none', { ...token, callbackId: { json: 'id' } }, 'must be a JSON pointer'],
    ['a selector of two kinds', { ...token, callbackId: { json: '/id', header: 'x' } }, 'must be one of { json'],
    ['a selector of no kind', { ...token, type: {} }, 'must be one of { json'],
    ['an empty list', { ...token, callbackId: [] }, 'callbackId'],
    ['one id for a whole batch', { ...token, batch: '', callbackId: { header: 'x-id' } }, 'would share it'],
    ['a batch that is no pointer', { ...token, batch: 'results' }, 'must be a JSON pointer'],
    ['a method that is none', { ...token, methods: ['get'] }, 'methods'],
    ['a public key that is none', signed({ algorithm: 'ed25519' }, { secrets: 'AAAA' }), 'is base64 of 32 bytes'],
    ['a secret that is no hex', signed({ secretEncoding: 'hex' }, { secrets: 'xyz-secret' }), 'it must be hex'],
  ]
  test.each(cases)('%s', (_name, options, text) => {
    const load = () => sourceOf(generic(options as GenericOptions), {})
    expect(load).toThrow(text)
    expect(load).not.toThrow('xyz-secret')
  })
})

test('every header that is read is kept, and a credential of the source is none the less one', () => {
  const { keptHeaders, signatureHeader, credentialHeaders } = sourceOf(
    generic(
      signed(
        { text: '{header:X-Api-Key}{timestamp}{body}', timestamp },
        {
          headers: { 'X-Api-Key': 'key' },
          callbackId: [{ json: '/id' }, { header: 'X-Message-Token' }],
          type: { header: 'X-Type' },
          occurredAt: { header: 'X-Time', format: 'unix' },
          callId: { header: 'X-Call' },
        },
      ),
    ),
  )!
  expect(keptHeaders.toSorted()).toEqual(
    ['x-api-key', 'x-call', 'x-message-token', 'x-signature', 'x-time', 'x-timestamp', 'x-type'].toSorted(),
  )
  expect(signatureHeader).toBe('x-signature')
  expect(credentialHeaders).toEqual(['x-api-key'])
  const unsigned = sourceOf(generic({ urlTokens: 'token', callbackId: { header: 'X-Message-Token' } }))!
  expect(unsigned.keptHeaders).toEqual(['x-message-token'])
})

test('a source is off where none of its values is set', () => {
  expect(sourceOf(generic({ signature: plain, secrets: env('UNSET') }), {})).toBeUndefined()
})

test('requests without signature pass where that is allowed, with another secret and no wrong signature', () => {
  const source = sourceOf(generic(signed({}, { allowUnsigned: true, headers: { 'X-API-Key': 'key' } })))!
  const headers = { 'x-api-key': 'key' }
  expect(source.read(requestOf({ body: '{}', headers }))).toMatchObject({ callbacks: [{ verifiedBy: 'secret' }] })
  expect(verdictOf(source.read(requestOf({ body: '{}' })))).toBe('credentials_missing')
  expect(verdictOf(source.read(requestOf({ body: '{}', headers: { ...headers, 'x-signature': 'ab' } })))).toBe(
    'signature_mismatch',
  )
  expect(verdictOf(source.read(requestOf({ body: '{}', headers: { ...headers, 'x-signature': '' } })))).toBe(
    'signature_unreadable',
  )
})
