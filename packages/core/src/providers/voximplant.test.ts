import { describe, expect, test } from 'vitest'
import { requestOf } from '../../test/support/sign-and-read.ts'
import hashes from '../../test/vectors/voximplant-hashes.json' with { type: 'json' }
import vectors from '../../test/vectors/voximplant.json' with { type: 'json' }
import { env, resolveConfig } from '../config.ts'
import type { Reading, Source } from './provider.ts'
import { signCallbackId, voximplant } from './voximplant.ts'
import type { VoximplantAccount, VoximplantOptions } from './voximplant.ts'

const { accountId, apiKey, salt } = vectors.credentials
const receivedAt = new Date('2026-01-01T00:00:00Z')

function sourceOf(options: VoximplantOptions, environment = {}): Source | undefined {
  return resolveConfig({ sources: { voximplant: voximplant(options) } }, environment).sources.get('voximplant')
}

function read(source: Source, body: string | Buffer): Reading {
  return source.read({
    method: 'POST',
    body: Buffer.from(body),
    header: () => undefined,
    url: '',
    remoteAddress: undefined,
    receivedAt,
  })
}

/** The callbacks of a body that can be read. */
function callbacksOf(source: Source, body: string | Buffer) {
  const reading = read(source, body)
  if (reading.kind === 'refused') throw new Error(`refused: ${reading.reason}`)
  return reading.callbacks
}

function item(
  callbackId: string,
  {
    signedBy = { accountId, apiKey, salt },
    ...fields
  }: Record<string, unknown> & { signedBy?: typeof vectors.credentials } = {},
) {
  return { callback_id: callbackId, type: 'min_balance', hash: signCallbackId(signedBy, callbackId), ...fields }
}

const bodyOf = (...items: unknown[]) => JSON.stringify({ callbacks: items })

const source = sourceOf({ accounts: [{ accountId, apiKey, salts: [salt] }] })!

test('a large request of many callbacks takes no longer for the spaces in them', () => {
  const many = (space: string) =>
    `{"callbacks":[${Array.from({ length: 5000 }, (_, index) => `{"callback_id":${space}${1e6 + index},"x":"${'x'.repeat(160)}"}`).join(',')}]}`
  const timed = (body: string) => {
    const before = performance.now()
    expect(callbacksOf(source, body)).toHaveLength(5000)
    return performance.now() - before
  }
  // Seconds, if each of them is looked for to the end of the document.
  expect(timed(many(' '))).toBeLessThan(10 * timed(many('')) + 500)
})

describe('what Voximplant publishes about its hash', () => {
  test.each(hashes)('$name', (vector) => {
    const credentials = { accountId: vector.account_id, apiKey: vector.api_key, salt: vector.salt }
    expect(signCallbackId(credentials, vector.callback_id_text)).toBe(vector.hash)
  })
})

describe('each callback of a request gets its own verdict', () => {
  test.each(vectors.requests)('$name', (vector) => {
    const body =
      'body' in vector
        ? vector.body
        : vector.bodyParts.map(([text, times]) => String(text).repeat(Number(times))).join('')
    const reading = read(source, body)
    if ('refused' in vector.expect) expect(reading).toMatchObject({ kind: 'refused', reason: vector.expect.refused })
    else expect(reading).toMatchObject({ kind: 'read', callbacks: vector.expect.callbacks })
  })
})

test('how deep a callback may nest does not depend on the others of its request', () => {
  const nested = (levels: number) => `${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}`
  const deep = (levels: number) => JSON.stringify(item('1')).replace('{', `{"x":${nested(levels)},`)
  const kindsOf = (...items: string[]) =>
    callbacksOf(source, `{"callbacks":[${items.join(',')}]}`).map(({ kind }) => kind)
  expect(kindsOf(deep(64))).toEqual(['genuine'])
  expect(kindsOf(deep(65))).toEqual(['unreadable'])
  expect(kindsOf(deep(64), deep(900), deep(65), deep(2))).toEqual(['genuine', 'unreadable', 'unreadable', 'genuine'])
})

test('a callback keeps the exact bytes that came', () => {
  const bytes = Buffer.concat([
    Buffer.from(
      `{"callbacks": [ {"callback_id":1, "hash":"${signCallbackId({ accountId, apiKey, salt }, '1')}","n":1.0, "s":"`,
    ),
    Buffer.from([0xff, 0xc3]),
    Buffer.from('"} ]}'),
  ])
  const [callback] = callbacksOf(source, bytes)
  expect(callback!.kind).toBe('genuine')
  expect(callback!.raw).toEqual(bytes.subarray(bytes.indexOf('{', 1), bytes.lastIndexOf(' ]')))
})

test('any of several live salts and keys verifies, in every combination', () => {
  const rotating = sourceOf({
    accounts: [{ accountId, apiKey: ['key-new', 'key-old'], salts: ['salt-new', 'salt-old'] }],
  })!
  for (const key of ['key-new', 'key-old']) {
    for (const liveSalt of ['salt-new', 'salt-old']) {
      const signed = item('7', { signedBy: { accountId, apiKey: key, salt: liveSalt } })
      expect(callbacksOf(rotating, bodyOf(signed))[0]!.kind).toBe('genuine')
    }
  }
  const dead = item('7', { signedBy: { accountId, apiKey: 'key-new', salt: 'salt-older' } })
  expect(callbacksOf(rotating, bodyOf(dead))[0]).toMatchObject({ kind: 'forged', reason: 'hash_mismatch' })
})

test('several accounts share one URL, and each callback belongs to the account that signed it', () => {
  const shared = sourceOf({
    accounts: [
      { accountId: '1', apiKey: 'key-1', salts: ['a'] },
      { accountId: '2', apiKey: 'key-2', salts: ['b'] },
    ],
  })!
  const body = bodyOf(
    item('7', { account_id: 1, signedBy: { accountId: '1', apiKey: 'key-1', salt: 'a' } }),
    item('7', { account_id: 2, signedBy: { accountId: '2', apiKey: 'key-2', salt: 'b' } }),
    item('7', { account_id: 2, signedBy: { accountId: '1', apiKey: 'key-1', salt: 'a' } }),
  )
  expect(callbacksOf(shared, body)).toMatchObject([
    { kind: 'genuine', accountId: '1' },
    { kind: 'genuine', accountId: '2' },
    { kind: 'forged', reason: 'account_mismatch' },
  ])
})

test('where one hash fits two accounts, the account in the callback decides', () => {
  // "s1" + "2345" and "s" + "12345": the parts are hashed without separators.
  const colliding = sourceOf({
    accounts: [
      { accountId: '2345', apiKey: 'k', salts: ['s1'] },
      { accountId: '12345', apiKey: 'k', salts: ['s'] },
    ],
  })!
  const signed = (account: number) =>
    item('6', { account_id: account, signedBy: { accountId: '2345', apiKey: 'k', salt: 's1' } })
  expect(callbacksOf(colliding, bodyOf(signed(2345), signed(12345)))).toMatchObject([
    { accountId: '2345' },
    { accountId: '12345' },
  ])
})

test('without an api_key the URL token is the proof, and callbacks belong to the account that they name', () => {
  const tokenOnly = sourceOf({ urlTokens: ['secret'] })!
  expect(tokenOnly.urlTokens).toEqual(['secret'])
  expect(
    callbacksOf(tokenOnly, bodyOf({ callback_id: 1, type: 'x', account_id: 5 }, { callback_id: 1, type: 'x' })),
  ).toMatchObject([
    { kind: 'genuine', verifiedBy: 'secret', accountId: '5' },
    { kind: 'genuine', verifiedBy: 'secret', accountId: '' },
  ])
})

describe('fields that must not be kept', () => {
  const dropping = sourceOf({
    accounts: [{ accountId, apiKey, salts: [salt] }],
    dropFields: ['account_email', 'sms_body'],
  })!

  test('go from genuine and from refused callbacks, however deep, and nothing else goes', () => {
    const payload = {
      account_email: 'a@b',
      sms_inbound: { sms_inbound: { sms_body: 'hi', source_number: '1' } },
      account_id: Number(accountId),
    }
    const [genuine, forged] = callbacksOf(
      dropping,
      bodyOf(item('1', payload), { ...item('2', payload), hash: '0'.repeat(32) }),
    )
    for (const callback of [genuine!, forged!]) {
      const kept = JSON.parse(callback.raw.toString()) as Record<string, unknown>
      expect(kept).not.toHaveProperty('account_email')
      expect(kept.sms_inbound).toEqual({ sms_inbound: { source_number: '1' } })
    }
    expect(genuine!.kind).toBe('genuine')
    expect(forged!.kind).toBe('forged')
  })

  test('leave no copy as the id of the call or the time of the event', () => {
    const dropsBoth = sourceOf({
      accounts: [{ accountId, apiKey, salts: [salt] }],
      dropFields: ['call_session_history_id', 'receival_date'],
    })!
    const [transcript, sms] = callbacksOf(
      dropsBoth,
      bodyOf(
        item('1', { type: 'transcription_complete', transcription_complete: { call_session_history_id: 5 } }),
        item('2', { type: 'sms_inbound', sms_inbound: { receival_date: '2025-12-31 23:59:58' } }),
      ),
    )
    expect(transcript).not.toHaveProperty('callId')
    expect(sms).not.toMatchObject({ occurredAt: new Date('2025-12-31T23:59:58Z') })
  })

  test('nothing is kept of a body that cannot be searched for them', () => {
    expect(read(dropping, '{"account_email":"a@b"')).toEqual({
      kind: 'refused',
      as: 'unreadable',
      reason: 'unreadable_body',
      body: Buffer.alloc(0),
    })
  })

  test('nothing is kept of a callback that nests too deep to be searched for them', () => {
    const body = `{"callbacks":[{"account_email":"a@b","x":${'['.repeat(64)}${']'.repeat(64)}},${JSON.stringify(item('1'))}]}`
    expect(callbacksOf(dropping, body)).toMatchObject([
      { reason: 'too_deep', raw: Buffer.alloc(0) },
      { kind: 'genuine' },
    ])
  })

  test('may not be those by which a callback is verified and named', () => {
    expect(() => sourceOf({ urlTokens: ['t'], dropFields: ['hash'] })).toThrow(/dropFields may not name "hash"/)
  })
})

describe('what a payload says beside its type', () => {
  const callOf = (payload: unknown) =>
    callbacksOf(
      source,
      `{"callbacks":[{"callback_id":1,"type":"transcription_complete","hash":"${signCallbackId({ accountId, apiKey, salt }, '1')}","transcription_complete":${String(payload)}}]}`,
    )[0]

  test('the call, with every digit and in both nestings', () => {
    expect(callOf('{"call_session_history_id":9007199254740993}')).toMatchObject({ callId: '9007199254740993' })
    expect(callOf('{"transcription_complete":{"call_session_history_id":9007199254740993}}')).toMatchObject({
      callId: '9007199254740993',
    })
    expect(callOf('{"call_session_history_id":null}')).not.toHaveProperty('callId')
  })

  test('the time, where the payload has one; else it is the time of receipt', () => {
    const timeOf = (fields: Record<string, unknown>) => callbacksOf(source, bodyOf(item('1', fields)))[0]
    expect(timeOf({ type: 'sms_inbound', sms_inbound: { receival_date: '2025-12-31 23:59:58' } })).toMatchObject({
      occurredAt: new Date('2025-12-31T23:59:58Z'),
    })
    const noTimes = [
      '2025-13-45 99:99:99',
      '2025-02-29 00:00:00',
      '2025-12-30 24:00:00',
      '0000-01-01 00:00:00',
      5,
      null,
    ]
    for (const receivalDate of noTimes) {
      expect(timeOf({ type: 'sms_inbound', sms_inbound: { receival_date: receivalDate } })).toMatchObject({
        occurredAt: receivedAt,
      })
    }
  })

  test('the details of a hostile type are not those of Object.prototype', () => {
    for (const type of ['__proto__', 'constructor', 'toString']) expect(source.details(type, {})).toBeUndefined()
  })
})

describe('configuration', () => {
  const fromEnvironment = {
    accounts: [{ accountId: env('ID'), apiKey: env('KEY'), salts: [env('SALT'), env('SALT_PREVIOUS')] }],
  }

  test('a source of which nothing is set is off', () => {
    expect(sourceOf(fromEnvironment)).toBeUndefined()
  })

  test('a source of which only a part is set is an error that names the rest and shows no value', () => {
    expect(() => sourceOf(fromEnvironment, { ID: '1', SALT: 'hush' })).toThrow(/KEY is not set/)
    expect(() => sourceOf(fromEnvironment, { ID: '1', SALT: 'hush' })).not.toThrow(/hush/)
  })

  test('public credentials are recognized', () => {
    expect(source.usesDemoCredentials).toBe(true)
    expect(sourceOf({ accounts: [{ accountId, apiKey: 'own', salts: [salt] }] })!.usesDemoCredentials).toBe(false)
  })
})

test('while an account gets its first salt, callbacks without one are still taken', () => {
  const rotating = sourceOf({ accounts: [{ accountId, apiKey, salts: [salt, ''] }] })!
  const unsalted = item('2', { signedBy: { accountId, apiKey, salt: '' } })
  expect(callbacksOf(rotating, bodyOf(item('1'), unsalted, item('3', { hash: '0'.repeat(32) })))).toMatchObject([
    { kind: 'genuine', secret: 1 },
    { kind: 'genuine', secret: 2 },
    { kind: 'forged' },
  ])
})

test('the number of the secret is that of salt, key and password together, and without a key that of the password', () => {
  const basicAuth = { username: 'user', password: ['new', 'old'] }
  const secretsWith = (accounts: VoximplantAccount[], password: string, body: string) => {
    const headers = { authorization: `Basic ${Buffer.from(`user:${password}`).toString('base64')}` }
    const reading = sourceOf({ accounts, basicAuth })!.read(requestOf({ headers, body }))
    return reading.kind === 'read' ? reading.callbacks : []
  }
  const accounts = [{ accountId, apiKey, salts: ['another', salt] }]
  expect(secretsWith(accounts, 'new', bodyOf(item('1')))).toMatchObject([{ verifiedBy: 'id', secret: 3 }])
  expect(secretsWith(accounts, 'old', bodyOf(item('1')))).toMatchObject([{ verifiedBy: 'id', secret: 4 }])
  expect(secretsWith([], 'old', bodyOf(item('1')))).toMatchObject([{ verifiedBy: 'secret', secret: 2 }])
})

test.each([
  [{ basicAuth: { username: 'user', password: 'password' } }, 'credentials_missing'],
  [{ addresses: ['192.0.2.1'] }, 'address_not_allowed'],
])('a right hash does not stand in for what else a source asks for: %j', (access, reason) => {
  const asking = sourceOf({ accounts: [{ accountId, apiKey, salts: [salt] }], ...access })!
  expect(read(asking, bodyOf(item('1')))).toMatchObject({ kind: 'refused', as: 'forged', reason })
})

test('in shadow mode callbacks without the password are taken, and say what they lack', () => {
  const basicAuth = { username: 'user', password: 'password' }
  const shadow = sourceOf({ accounts: [{ accountId, apiKey, salts: [salt] }], basicAuth, shadow: true })!
  expect(callbacksOf(shadow, bodyOf(item('1')))).toMatchObject([
    { kind: 'genuine', verifiedBy: 'none', wouldRefuse: 'credentials_missing' },
  ])
})

test('an account whose number is larger than JavaScript counts is told from its neighbours', () => {
  const large = { accountId: '9007199254740993', apiKey, salt }
  const ofLarge = sourceOf({ accounts: [{ accountId: large.accountId, apiKey, salts: [salt] }] })!
  const { hash } = item('1', { signedBy: large })
  const body = (account: string) => `{"callbacks":[{"callback_id":"1","account_id":${account},"hash":"${hash}"}]}`
  expect(callbacksOf(ofLarge, body('9007199254740993'))).toMatchObject([{ kind: 'genuine' }])
  expect(callbacksOf(ofLarge, body('9007199254740992'))).toMatchObject([{ reason: 'account_mismatch' }])
})
