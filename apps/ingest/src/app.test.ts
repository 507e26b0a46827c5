import { Readable } from 'node:stream'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { GroupPart, QueuedCallback, QueuedRefusal } from '@ringback/core/callback'
import { resolveConfig } from '@ringback/core/config'
import type { ConfigDefinition } from '@ringback/core/config'
import { createLogger } from '@ringback/core/log'
import type { Logger } from '@ringback/core/log'
import { bandwidth } from '@ringback/core/providers/bandwidth'
import { fonestorm } from '@ringback/core/providers/fonestorm'
import { generic } from '@ringback/core/providers/generic'
import { infobip } from '@ringback/core/providers/infobip'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { twilio } from '@ringback/core/providers/twilio'
import { vobiz } from '@ringback/core/providers/vobiz'
import { demoCredentials, signCallbackId, voximplant } from '@ringback/core/providers/voximplant'
import { createAllowance, defaultAllowance } from './allowance.ts'
import type { Allowance } from './allowance.ts'
import { createApp } from './app.ts'
import type { AnsweredRequest } from './count-requests.ts'
import { listen } from './http-server.ts'
import { createBodyReader } from './read-body.ts'
import { createTurns } from './take-turns.ts'
import type { InTurn } from './take-turns.ts'

const { accountId, apiKey, salt } = demoCredentials

function appWith({
  inTurn = (_bodyBytes, work) => work(),
  mayQuarantine = () => true,
  fails = false,
  maxBytes = 10_000,
  maxTotalBytes = 1_000_000,
  rootSource = 'voximplant',
  onAnswered = () => {},
  config = {},
  environment = {},
  log = createLogger('test', 'silent'),
}: {
  inTurn?: InTurn
  mayQuarantine?: Allowance
  fails?: boolean
  maxBytes?: number
  maxTotalBytes?: number
  rootSource?: string | null
  onAnswered?: (request: AnsweredRequest) => void
  config?: Partial<ConfigDefinition>
  environment?: Record<string, string>
  log?: Logger
} = {}) {
  const enqueued: GroupPart[] = []
  const dropped: string[] = []
  const { sources, origin, credentialDigest } = resolveConfig(
    {
      ...config,
      sources: {
        voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] }),
        secret: voximplant({ urlTokens: ['token-new', 'token-old'] }),
        ...config.sources,
      },
    },
    environment,
  )
  const app = createApp({
    sources,
    enqueue: async (parts) => {
      if (fails) throw new Error('the queue is down')
      enqueued.push(...parts)
    },
    countDropped: (source, reason) => dropped.push(`${source} ${reason}`),
    inTurn,
    mayQuarantine,
    readBody: createBodyReader({ maxBytes, maxTotalBytes }),
    rootSource: rootSource ?? undefined,
    ready: async () => !fails,
    onAnswered,
    origin,
    credentialDigest,
    now: () => new Date(),
    log,
  })
  const post = async (path: string, body: string | ReadableStream, headers: Record<string, string> = {}) =>
    app.request(path, { method: 'POST', body, headers, duplex: 'half' })
  return { app, enqueued, dropped, post }
}

const signed = (id: string) => ({
  callback_id: id,
  type: 'min_balance',
  account_id: Number(accountId),
  hash: signCallbackId(demoCredentials, id),
})
const bodyOf = (...callbacks: unknown[]) => JSON.stringify({ callbacks })
const forged = { ...signed('1'), hash: '0'.repeat(32) }

describe('answers', () => {
  test.each([
    ['a genuine callback', '/callbacks/voximplant', bodyOf(signed('1')), 200],
    ['an empty batch', '/callbacks/voximplant', bodyOf(), 200],
    ['a batch with one genuine callback', '/callbacks/voximplant', bodyOf(forged, signed('2'), {}), 200],
    ['only forged and unreadable callbacks', '/callbacks/voximplant', bodyOf(forged, {}), 401],
    ['only unreadable callbacks', '/callbacks/voximplant', bodyOf({}), 400],
    ['no JSON', '/callbacks/voximplant', 'callbacks=1', 400],
    ['an unknown source', '/callbacks/nobody', bodyOf(signed('1')), 404],
    ['a trailing slash', '/callbacks/voximplant/', bodyOf(signed('1')), 200],
    ['a token where the source has none', '/callbacks/voximplant/token', bodyOf(signed('1')), 404],
    ['no token where the source has some', '/callbacks/secret', bodyOf(signed('1')), 404],
    ['a wrong token', '/callbacks/secret/token', bodyOf(signed('1')), 404],
    ['the newest token', '/callbacks/secret/token-new', bodyOf(signed('1')), 200],
    ['the token before it', '/callbacks/secret/token-old', bodyOf(signed('1')), 200],
    ['the root source', '/', bodyOf(signed('1')), 200],
    ['a body over the limit', '/callbacks/voximplant', 'x'.repeat(10_001), 413],
    ['any other path', '/elsewhere', '{}', 404],
  ])('%s', async (_what, path, body, status) => {
    const { post } = appWith()
    const response = await post(path, body)
    expect(response.status).toBe(status)
    expect(response.headers.get('content-type')).toContain('application/json')
  })

  test('a request to a wrong URL is counted, whichever it is, and a probe of one is not', async () => {
    const answered: string[] = []
    const onAnswered = ({ outcome }: AnsweredRequest) => void answered.push(outcome)
    const { app, post } = appWith({ rootSource: null, onAnswered })
    const paths = ['/', '/callback/voximplant', '/callbacks', '/callbacks/nobody', '/callbacks/secret/token-new/more']
    for (const path of paths) expect((await post(path, '{}')).status).toBe(404)
    for (const path of paths.slice(1)) expect((await app.request(path)).status).toBe(404)
    expect((await app.request('/callback/voximplant?callback_id=1')).status).toBe(404)
    expect(answered).toEqual(Array(6).fill('unknown_source'))
  })

  test('unknown sources and wrong tokens cannot be told apart', async () => {
    const { app, post } = appWith()
    const bodies = await Promise.all([
      post('/callbacks/nobody', '').then((response) => response.text()),
      post('/callbacks/secret/wrong', '').then((response) => response.text()),
      Promise.resolve(app.request('/callbacks/nobody')).then((response) => response.text()),
      Promise.resolve(app.request('/callbacks/secret')).then((response) => response.text()),
    ])
    expect(new Set(bodies).size).toBe(1)
  })

  test('a refusal never says why', async () => {
    const { post } = appWith()
    expect(await (await post('/callbacks/voximplant', bodyOf(forged))).text()).not.toMatch(/hash|mismatch|account|salt/)
  })

  test('the log says why, each reason once', async () => {
    const lines: unknown[] = []
    const log = createLogger('test', 'info', { write: (line) => void lines.push(JSON.parse(line)) })
    const { post } = appWith({ log })
    await post('/callbacks/voximplant', bodyOf(forged, { ...forged, callback_id: '2' }, {}))
    await post('/callbacks/voximplant', 'no json')
    expect(lines).toMatchObject([
      { msg: 'request.received', outcome: 'forged', refused: 3, reasons: ['hash_mismatch', 'callback_id_missing'] },
      { msg: 'request.received', outcome: 'unreadable', refused: 1, reasons: ['unreadable_body'] },
    ])
  })

  test('a callback that cannot be made durable is 503 with Retry-After, and so is a refusal', async () => {
    const { post } = appWith({ fails: true })
    for (const body of [bodyOf(signed('1')), bodyOf(forged), 'no json']) {
      const response = await post('/callbacks/voximplant', body)
      expect(response.status).toBe(503)
      expect(response.headers.get('retry-after')).toBe('5')
    }
  })

  test("a control panel's probe is 200, and 404 where nothing is", async () => {
    const { app } = appWith()
    const status = async (path: string, method: string) => (await app.request(path, { method })).status
    for (const method of ['GET', 'HEAD']) {
      expect(await status('/', method)).toBe(200)
      expect(await status('/callbacks/voximplant', method)).toBe(200)
      expect(await status('/callbacks/secret/token-new', method)).toBe(200)
      expect(await status('/callbacks/secret', method)).toBe(404)
    }
  })

  test('a callback to the root by GET, which is answered 200, is kept as one to its source is', async () => {
    const get = fonestorm({ basicAuth: { username: 'user', password: 'hush' } })
    const { app, enqueued } = appWith({ rootSource: 'get', config: { sources: { get } } })
    const headers = { authorization: `Basic ${Buffer.from('user:hush').toString('base64')}` }
    expect((await app.request('/?id=m1&to=1&from=2&msg=hello', { headers })).status).toBe(200)
    expect(enqueued.map(({ json }) => JSON.parse(json) as QueuedCallback)).toMatchObject([
      { source: 'get', method: 'GET', url: '/?id=m1&to=1&from=2&msg=hello' },
    ])
    expect((await app.request('/?id=m1&to=1&from=2&msg=hello')).status).toBe(401)
    expect((await app.request('/')).status).toBe(200)
    expect(enqueued).toHaveLength(2)
  })

  test.each([
    ['DELETE', '/callbacks/voximplant'],
    ['GET', '/?callback_id=1'],
    ['PATCH', '/callbacks/voximplant'],
    ['GET', '/callbacks/voximplant?callback_id=1'],
  ])('%s %s is 405 and says what is allowed', async (method, path) => {
    const response = await appWith().app.request(path, { method })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('POST, PUT')
  })

  test('a PUT is taken wherever a POST is', async () => {
    const { app, enqueued } = appWith()
    const body = bodyOf(signed('7'))
    expect((await app.request('/callbacks/voximplant', { method: 'PUT', body })).status).toBe(200)
    expect(enqueued.map(({ json }) => JSON.parse(json) as QueuedCallback)).toMatchObject([{ method: 'PUT' }])
  })

  test('readiness is whether callbacks can be made durable', async () => {
    for (const path of ['/readyz', '/healthz']) {
      expect((await appWith().app.request(path)).status).toBe(200)
      expect((await appWith({ fails: true }).app.request(path)).status).toBe(503)
    }
    expect((await appWith({ fails: true }).app.request('/livez')).status).toBe(200)
  })
})

test('a body over the limit is refused by its length, and where none is declared by its bytes', async () => {
  const { post, dropped, enqueued } = appWith()
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(4096)) })
  expect((await post('/callbacks/voximplant', endless)).status).toBe(413)
  expect((await post('/callbacks/voximplant', '{}', { 'content-length': '10001' })).status).toBe(413)
  expect(dropped).toEqual(['voximplant too_large', 'voximplant too_large'])
  expect(enqueued).toEqual([])
})

test('bodies that never end cannot fill the memory, and small ones are read all the while', async () => {
  const { post } = appWith({ maxBytes: 1_000_000, maxTotalBytes: 300_000 })
  const controllers: ReadableStreamDefaultController[] = []
  const unfinished = () =>
    new ReadableStream({
      start: (controller) => (controllers.push(controller), controller.enqueue(new Uint8Array(100_000))),
    })
  const pending = [1, 2, 3].map(() => post('/callbacks/voximplant', unfinished()))
  expect((await post('/callbacks/voximplant', 'x'.repeat(100_000))).status).toBe(503)
  expect((await post('/callbacks/voximplant', bodyOf(signed('1')))).status).toBe(200)
  for (const controller of controllers) controller.close()
  expect((await Promise.all(pending)).map(({ status }) => status)).toEqual([400, 400, 400])
  expect((await post('/callbacks/voximplant', ' '.repeat(100_000) + bodyOf(signed('2')))).status).toBe(200)
})

test('very many small bodies that never end cannot fill the memory either', async () => {
  const { post } = appWith({ maxBytes: 1_000_000, maxTotalBytes: 300_000 })
  const controllers: ReadableStreamDefaultController[] = []
  const unfinished = () =>
    new ReadableStream({
      start: (controller) => (controllers.push(controller), controller.enqueue(new Uint8Array(60_000))),
    })
  const pending = Array.from({ length: 10 }, () => post('/callbacks/voximplant', unfinished()))
  expect((await post('/callbacks/voximplant', bodyOf(signed('1')))).status).toBe(503)
  for (const controller of controllers) controller.close()
  expect(new Set((await Promise.all(pending)).map(({ status }) => status))).toEqual(new Set([400]))
  expect((await post('/callbacks/voximplant', bodyOf(signed('1')))).status).toBe(200)
})

test('a large body for which there is no time is answered 503 before it is verified, and small ones are accepted', async () => {
  const inTurn = createTurns({ maxBytes: 100_000, maxWaitingBytes: 0, maxWaitMs: 0 })
  const { post, enqueued, dropped } = appWith({ maxBytes: 1_000_000, inTurn })
  const response = await post('/callbacks/voximplant', ' '.repeat(100_000) + bodyOf(forged))
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('5')
  expect([...enqueued, ...dropped]).toEqual([])
  expect((await post('/callbacks/voximplant', bodyOf(signed('1')))).status).toBe(200)
})

test('each callback travels with its own bytes and everything that the worker needs', async () => {
  const { post, enqueued } = appWith()
  await post('/callbacks/voximplant?a=1', bodyOf(signed('1'), signed('2')), {
    'content-type': 'application/json',
    authorization: 'Basic hush',
  })
  const callbacks = enqueued.map(({ json }) => JSON.parse(json) as QueuedCallback)
  expect(callbacks).toMatchObject([{ callbackId: '1' }, { callbackId: '2' }])
  expect(callbacks[0]).toMatchObject({
    source: 'voximplant',
    accountId,
    type: 'min_balance',
    verifiedBy: 'id',
    method: 'POST',
    url: '/callbacks/voximplant?a=1',
    headers: { 'content-type': 'application/json', authorization: '[redacted]' },
    raw: Buffer.from(JSON.stringify(signed('1'))).toString('base64'),
  })
})

test('a secret token is kept nowhere', async () => {
  const { post, enqueued } = appWith()
  await post('/callbacks/secret/token-new?x=1', bodyOf(signed('1')))
  await post('/callbacks/secret/token%2Dnew/', 'no json')
  await post('/callbacks/secret/token-new', bodyOf(signed('2')), {
    'X-Original-URL': '/callbacks/secret/token-new',
    Referer: 'https://hooks.example.com/in/secret/token-new?x=1',
  })
  expect(enqueued.map(({ json }) => (JSON.parse(json) as QueuedCallback | QueuedRefusal).url)).toEqual([
    '/callbacks/secret/***?x=1',
    '/callbacks/secret/***/',
    '/callbacks/secret/***',
  ])
  expect(JSON.stringify(enqueued)).not.toContain('token-new')
})

test('an event says which of the tokens was in its URL, so that the former one can be removed when none has it', async () => {
  const { post, enqueued } = appWith()
  for (const token of ['token-new', 'token-old']) await post(`/callbacks/secret/${token}`, bodyOf(signed('1')))
  const secrets = enqueued.map(({ json }) => (JSON.parse(json) as QueuedCallback).secret)
  expect(secrets).toEqual([1, 2])
})

test('of a batch the good are kept and the bad go to quarantine, each with its reason', async () => {
  const { post, enqueued } = appWith()
  await post('/callbacks/voximplant', bodyOf(forged, signed('2'), { type: 'x' }))
  const parts = enqueued.map(({ kind, json }) => ({
    kind,
    ...(JSON.parse(json) as { callbackId?: string; reason?: string }),
  }))
  expect(parts).toMatchObject([
    { kind: 'quarantined', callbackId: '1', reason: 'hash_mismatch' },
    { kind: 'callbacks', callbackId: '2' },
    { kind: 'quarantined', reason: 'callback_id_missing' },
  ])
})

test('beyond its allowance a refusal is counted and not kept', async () => {
  const { post, enqueued, dropped } = appWith({ mayQuarantine: () => false })
  expect((await post('/callbacks/voximplant', bodyOf(forged))).status).toBe(401)
  expect(enqueued).toEqual([])
  expect(dropped).toEqual(['voximplant hash_mismatch'])
})

describe('a body of the largest size', () => {
  const maxBytes = 1024 * 1024
  const filledWith = (item: string, [opening, closing]: [string, string]) => {
    const count = Math.floor((maxBytes - opening.length - closing.length + 1) / (item.length + 1))
    return `${opening}${Array(count).fill(item).join(',')}${closing}`
  }
  const config = {
    sources: {
      bandwidth: bandwidth({ urlTokens: 'token' }),
      infobip: infobip({ urlTokens: 'token' }),
      generic: generic({ urlTokens: 'token', batch: '/data' }),
      twilio: twilio({ urlTokens: 'token' }),
      ndnc: vobiz({ scheme: 'ndnc', urlTokens: 'token' }),
    },
  }

  test.each([
    ['voximplant', ['{"callbacks":[', ']}']],
    ['bandwidth/token', ['[', ']']],
    ['infobip/token', ['{"results":[', ']}']],
    ['generic/token', ['{"data":[', ']}']],
    ['twilio/token', ['[', ']']],
    ['ndnc/token', ['{"complaints":[', ']}']],
  ] as [string, [string, string]][])('in which %s gets too many callbacks is one refusal', async (path, brackets) => {
    const { post, enqueued } = appWith({ maxBytes, maxTotalBytes: 2 * maxBytes, config })
    for (const item of ['1', '{}']) {
      expect((await post(`/callbacks/${path}`, filledWith(item, brackets))).status).toBe(400)
    }
    const refusals = enqueued.map(({ json }) => JSON.parse(json) as QueuedRefusal)
    expect(refusals.map(({ reason, scope }) => [reason, scope])).toEqual([
      ['too_many_callbacks', 'request'],
      ['too_many_callbacks', 'request'],
    ])
  })

  test('of very many forgeries only what the allowance has room for is kept, and the others are counted', async () => {
    const mayQuarantine = createAllowance(defaultAllowance, () => 0)
    const { post, enqueued, dropped } = appWith({ maxBytes, maxTotalBytes: 2 * maxBytes, config, mayQuarantine })
    const bodies = ['1', '{}', JSON.stringify(forged)].map((item) => filledWith(item, ['{"callbacks":[', ']}']))
    const most = bodyOf(...Array.from({ length: 9000 }, () => forged))
    for (const body of [...bodies, most]) {
      expect((await post('/callbacks/voximplant', body)).status).toBeGreaterThanOrEqual(400)
    }
    expect(enqueued).toHaveLength(defaultAllowance.items)
    expect(enqueued.length + dropped.length).toBe(bodies.length + 9000)
  })
})

test('what is kept of refusals, URL and headers too, stays within the allowance', async () => {
  const allowedBytes = 100_000
  for (const body of [bodyOf(forged), bodyOf(...Array.from({ length: 50 }, () => forged)), 'no json']) {
    const mayQuarantine = createAllowance({ items: 1000, bytes: allowedBytes }, () => 0)
    const { post, enqueued, dropped } = appWith({ mayQuarantine })
    const send = () => post(`/callbacks/voximplant?${'q'.repeat(4000)}`, body, { 'x-long': 'h'.repeat(4000) })
    while (dropped.length === 0) await send()
    const keptBytes = enqueued.reduce((total, { json }) => {
      const { url, headers, body: base64 } = JSON.parse(json) as QueuedRefusal
      return total + url.length + JSON.stringify(headers).length + Buffer.from(base64, 'base64').length
    }, 0)
    expect(keptBytes).toBeLessThanOrEqual(allowedBytes)
    expect(keptBytes).toBeGreaterThan(allowedBytes * 0.8)
  }
})

test('a body that is larger than what is left of the allowance is counted and not kept', async () => {
  const mayQuarantine = createAllowance({ items: 1000, bytes: 5000 }, () => 0)
  const { post, enqueued, dropped } = appWith({ mayQuarantine })
  expect((await post('/callbacks/voximplant', 'x'.repeat(9000))).status).toBe(400)
  expect([enqueued.length, dropped.length]).toEqual([0, 1])
})

test('a request without a callback is answered without the queue', async () => {
  const { post, enqueued } = appWith({ fails: true })
  expect((await post('/callbacks/voximplant', bodyOf())).status).toBe(200)
  expect(enqueued).toEqual([])
})

test('a type that Postgres would refuse is made storable', async () => {
  const { post, enqueued } = appWith()
  await post('/callbacks/voximplant', bodyOf({ ...signed('1'), type: `a\u0000\ud800${'x'.repeat(300)}` }))
  const { type } = JSON.parse(enqueued[0]!.json) as QueuedCallback
  expect(type).toMatch(/^a\ufffd\ufffdx+$/)
  expect(type).toHaveLength(255)
})

describe('what sources may ask for beside a signature', () => {
  const sources = {
    basic: fonestorm({ basicAuth: { username: 'user', password: 'pass:word' } }),
    key: fonestorm({ headers: { 'X-Customer': ['new', 'old'] } }),
    vobiz: vobiz({ secrets: 'auth-token', urlTokens: 'token', allowUnsigned: true }),
    shadow: standardWebhooks({ secrets: 'whsec_c2VjcmV0', shadow: true }),
  }
  const environment = { PUBLIC_BASE_URL: 'https://hooks.example.test/in', CREDENTIAL_DIGEST_KEY: 'key' }
  const withSources = () => appWith({ config: { sources }, environment })
  const message = JSON.stringify({ id: 'm1', to: '1', from: '2', message: 'hello' })

  test('a password that is missing or wrong is asked for, and kept only as a digest', async () => {
    const { post, enqueued } = withSources()
    const authorized = (credentials: string) => ({
      authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
    })
    const missing = await post('/callbacks/basic', message)
    expect(missing.status).toBe(401)
    expect(missing.headers.get('www-authenticate')).toBe('Basic realm="callbacks", charset="UTF-8"')
    expect((await post('/callbacks/basic', message, authorized('user:hush'))).status).toBe(401)
    expect((await post('/callbacks/basic', message, authorized('user:pass:word'))).status).toBe(200)
    expect(enqueued.map(({ kind }) => kind)).toEqual(['quarantined', 'quarantined', 'callbacks'])
    const [, wrong, right] = enqueued.map(({ json }) => JSON.parse(json) as QueuedRefusal)
    expect(wrong!.headers.authorization).toMatch(/^digest:[0-9a-f]{64}$/)
    expect(right!.headers.authorization).toBe('[redacted]')
    expect(JSON.stringify(enqueued)).not.toContain(Buffer.from('user:hush').toString('base64'))
  })

  test('any of several keys in a header of its own lets in, and none is stored', async () => {
    const { post, enqueued } = withSources()
    for (const key of ['new', 'old']) {
      expect((await post('/callbacks/key', message, { 'x-customer': key })).status).toBe(200)
    }
    expect((await post('/callbacks/key', message, { 'x-customer': 'New' })).status).toBe(401)
    const headers = enqueued.map(({ json }) => (JSON.parse(json) as QueuedCallback).headers['x-customer'])
    expect(headers).toEqual(['[redacted]', '[redacted]', expect.stringMatching(/^digest:/)])
  })

  test('a callback by GET is its query', async () => {
    const { app, enqueued } = appWith({ config: { sources: { get: fonestorm({ urlTokens: 'token' }) } } })
    const path = '/callbacks/get/token?id=m1&to=1&from=2&msg=hello%20world'
    expect((await app.request(path)).status).toBe(200)
    const queued = JSON.parse(enqueued[0]!.json) as QueuedCallback
    expect(queued).toMatchObject({ method: 'GET', url: '/callbacks/get/***?id=m1&to=1&from=2&msg=hello%20world' })
    expect(JSON.parse(queued.payload!)).toEqual({ id: 'm1', to: '1', from: '2', msg: 'hello world' })
  })

  test('the signed URL is the public one, token and path of the proxy included, and is not stored', async () => {
    const { app, enqueued } = withSources()
    const source = resolveConfig({ sources }, environment).sources.get('vobiz')!
    const request = { method: 'POST' as const, headers: { 'content-type': 'application/x-www-form-urlencoded' } }
    const body = Buffer.from('Event=Ring&CallUUID=c1')
    const send = (url: string) => {
      const { headers } = source.sign({ ...request, url, body }, { at: new Date() })
      return app.request('/callbacks/vobiz/token', { method: 'POST', headers, body: new Uint8Array(body) })
    }
    expect((await send('https://hooks.example.test/in/callbacks/vobiz/token')).status).toBe(200)
    expect((await send('https://hooks.example.test/callbacks/vobiz/token')).status).toBe(401)
    const answered = await app.request('/callbacks/vobiz/token', { ...request, body: new Uint8Array(body) })
    expect(answered.status).toBe(200)
    expect(answered.headers.get('content-type')).toBe('application/xml')
    const stored = enqueued.map(({ json }) => JSON.parse(json) as QueuedCallback)
    expect(stored.map(({ verifiedBy }) => verifiedBy)).toEqual(['url', undefined, 'secret'])
    expect(JSON.stringify(stored)).not.toMatch(/auth-token|\/token/)
  })

  test('only the listed addresses may send, as the trusted proxy in front reports them', async () => {
    const listed = { listed: fonestorm({ addresses: ['203.0.113.0/24'] }) }
    const { app, enqueued } = appWith({ config: { sources: listed, trustedProxies: ['127.0.0.1'] } })
    const statusFrom = async (forwardedFor: string, remoteAddress: string) => {
      const headers = { 'x-forwarded-for': forwardedFor }
      const incoming = Object.assign(Readable.from([Buffer.from(message)]), {
        url: '/callbacks/listed',
        headers,
        socket: { remoteAddress },
      })
      const { status } = await app.request('/callbacks/listed', { method: 'POST', headers }, { incoming })
      return status
    }
    expect(await statusFrom('203.0.113.7', '127.0.0.1')).toBe(200)
    expect(await statusFrom('198.51.100.7', '127.0.0.1')).toBe(401)
    expect(await statusFrom('203.0.113.7', '198.51.100.7')).toBe(401)
    const [, second, third] = enqueued.map(({ json }) => JSON.parse(json) as QueuedRefusal)
    expect(second).toMatchObject({ reason: 'address_not_allowed', remoteAddress: '198.51.100.7' })
    expect(third).toMatchObject({ reason: 'address_not_allowed', remoteAddress: '198.51.100.7' })
  })

  test('a source may have a public URL of its own', async () => {
    const own = { vobiz: vobiz({ secrets: 'auth-token', publicBaseUrl: 'https://own.example.test' }) }
    const { app } = appWith({ config: { sources: own }, environment })
    const source = resolveConfig({ sources: own }, environment).sources.get('vobiz')!
    const request = { method: 'POST' as const, headers: { 'content-type': 'application/x-www-form-urlencoded' } }
    const body = Buffer.from('Event=Ring&CallUUID=c1')
    const url = 'https://own.example.test/callbacks/vobiz'
    const { headers } = source.sign({ ...request, url, body }, { at: new Date() })
    const response = await app.request('/callbacks/vobiz', { method: 'POST', headers, body: new Uint8Array(body) })
    expect(response.status).toBe(200)
  })

  test('a target in absolute form is its path and query, and is signed and stored as such', async () => {
    const { app, enqueued } = appWith({ config: { sources: { voice: vobiz({ secrets: 'auth-token' }) } }, environment })
    const server = await listen(app.fetch, { hostname: '127.0.0.1', port: 0 })
    const { sources: found } = resolveConfig({ sources: { voice: vobiz({ secrets: 'auth-token' }) } }, environment)
    const { headers, body } = found.get('voice')!.sign(
      {
        method: 'POST',
        url: 'https://hooks.example.test/in/callbacks/voice',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from('Event=Ring&CallUUID=c1'),
      },
      { at: new Date() },
    )
    for (const path of ['https://hooks.example.test/callbacks/voice', 'http://inner:3000/callbacks/voice?to=/x']) {
      const sent = request({ port: server.port, host: '127.0.0.1', method: 'POST', path, headers }).end(body)
      const [answer] = (await once(sent, 'response')) as [IncomingMessage]
      answer.resume()
      expect(answer.statusCode).toBe(200)
    }
    await server.close(0)
    const urls = enqueued.map(({ json }) => (JSON.parse(json) as QueuedCallback).url)
    expect(urls).toEqual(['/callbacks/voice', '/callbacks/voice?to=/x'])
  })

  test.each([
    ['an empty port', 'hooks.example.test:', '/callbacks/voice'],
    ['a port that is none', 'hooks.example.test:99999', '/callbacks/voice'],
    ['capitals', 'Hooks.Example.Test', '/callbacks/voice'],
    ['an address that is none', '1.2.3.4.5', '/callbacks/voice'],
    ['a target in absolute form, in capitals', 'hooks.example.test', 'HTTPS://hooks.example.test/callbacks/voice'],
    ['a target in absolute form, with an empty port', 'inner:3000', 'http://hooks.example.test:/callbacks/voice'],
  ])('a request is taken whatever its Host is, which is that of the signed URL: %s', async (_what, host, path) => {
    const config = { sources: { voice: vobiz({ secrets: 'auth-token' }) }, trustedProxies: ['127.0.0.1'] }
    const { app, enqueued } = appWith({ config })
    const server = await listen(app.fetch, { hostname: '127.0.0.1', port: 0 })
    onTestFinished(() => server.close(0))
    const send = async (method: 'GET' | 'POST', headers: Record<string, string>, body: Buffer) => {
      const to = { port: server.port, host: '127.0.0.1', method, path, headers: { ...headers, host } }
      const [answer] = (await once(request(to).end(body), 'response')) as [IncomingMessage]
      answer.resume()
      return answer.statusCode
    }
    const { headers, body } = resolveConfig(config, {})
      .sources.get('voice')!
      .sign(
        {
          method: 'POST',
          url: `https://${host}/callbacks/voice`,
          headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-forwarded-proto': 'https' },
          body: Buffer.from('Event=Ring&CallUUID=c1'),
        },
        { at: new Date() },
      )
    expect(await send('POST', headers, body)).toBe(200)
    expect(enqueued.map(({ json }) => JSON.parse(json) as QueuedCallback)).toMatchObject([{ url: '/callbacks/voice' }])
    expect(await send('GET', {}, Buffer.alloc(0))).toBe(200)
  })

  test('in shadow mode a forgery is taken and says what it is', async () => {
    const { post, enqueued } = withSources()
    expect((await post('/callbacks/shadow', '{"type":"t"}', { 'webhook-id': 'm1' })).status).toBe(200)
    expect(JSON.parse(enqueued[0]!.json)).toMatchObject({
      callbackId: 'm1',
      verifiedBy: 'none',
      wouldRefuse: 'signature_missing',
    })
  })
})

test('a request of thousands of callbacks does not multiply its headers by thousands', async () => {
  const { post, enqueued } = appWith({ maxBytes: 1_000_000 })
  const body = bodyOf(...Array.from({ length: 5000 }, () => signed('1')))
  const response = await post(`/callbacks/voximplant?${'q'.repeat(4000)}`, body, { 'x-long': 'v'.repeat(4000) })
  expect(response.status).toBe(200)
  const bytes = enqueued.reduce((sum, { json }) => sum + json.length, 0)
  expect(bytes).toBeLessThan(10 * body.length)
})
