import { createServer } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import type { ForwardOptions } from '@ringback/core/forward'
import { forward } from '@ringback/core/handlers'
import { deliver, untilEnded } from './support/deliver.ts'
import { listen } from './support/listen.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

/** Soon enough for a test; the schedule itself is a pure function with tests of its own. */
const soon = { firstDelayMs: 100, maxDelayMs: 100, maxAttempts: 3 }

interface Received {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: string
}

type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => unknown

/** A real endpoint that answers each path by a function, which gets how often the path was asked for before. */
async function startEndpoint(answers: Record<string, Answer>) {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const path = request.url!
    const body = Buffer.concat(await request.toArray()).toString()
    const count = received.filter((other) => other.path === path).length
    received.push({ method: request.method!, path, headers: request.headers, body })
    answers[path.split('?')[0]!]!(request, response, count)
  })
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return {
    at: (path: string) => `http://127.0.0.1:${port}${path}`,
    received: (path?: string) => received.filter((request) => path === undefined || request.path === path),
    [Symbol.asyncDispose]: close,
  }
}

function to(url: string, options: Partial<ForwardOptions> = {}): HandlerDefinition['run'] {
  return forward({ url, allowAddresses: ['127.0.0.0/8'], ...options })
}

const receive = (database: Database, handlers: HandlerDefinition[], ...callbacks: unknown[]) =>
  deliver(database, configWith({ handlers }), ...callbacks)

/** What became of a handler's delivery, with all its attempts. */
async function historyOf({ sql }: Database, handler: string) {
  const [delivery] = await sql`select id, status, attempts, last_error from deliveries where handler = ${handler}`
  const attempts = await sql`
    select outcome, status_code, error, response, duration_ms from attempts where delivery_id = ${delivery!.id} order by number`
  return {
    status: delivery!.status as string,
    lastError: delivery!.last_error as string | null,
    attempts: [...attempts],
  }
}

test('an event arrives as JSON with every digit, and the answer is kept', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({
    '/hook': (_request, response) => response.writeHead(202).end('thank you'),
  })
  const config = [{ name: 'there', on: { type: 'sms_inbound' }, run: to(endpoint.at('/hook')) }]
  const id = '9223372036854775807'
  await receive(database, config, aCallback(id, { sms_inbound: { text: 'ü' }, balance: 4.5 }))
  const [request] = endpoint.received()
  const [event] = await database.sql`select id, payload::text as payload from events`
  const [delivery] = await database.sql`select id from deliveries`
  expect(request!.headers).toMatchObject({
    'user-agent': 'Ringback',
    'idempotency-key': delivery!.id,
    'ringback-event-id': event!.id,
    'ringback-attempt': '1',
  })
  expect(request!.body).toContain(`"payload":${event!.payload}}`)
  expect(JSON.parse(request!.body)).toMatchObject({ id: event!.id, callbackId: id, source: 'voximplant' })
  expect(await historyOf(database, 'there')).toMatchObject({
    status: 'succeeded',
    attempts: [{ outcome: 'succeeded', status_code: 202, response: 'thank you', error: null }],
  })
})

test('callbacks of a batch arrive as they came, one by one, and another Ringback takes them as genuine', async () => {
  await using database = await freshDatabase()
  await using elsewhere = await freshDatabase()
  await using other = await startIngest(elsewhere)
  await using _otherWorker = await startWorker(elsewhere)
  const run = to(`http://127.0.0.1:${other.port}/callbacks/voximplant`, { as: 'received' })
  const callbacks = ['9223372036854775806', '9223372036854775807'].map((id) => aCallback(id, { note: 'ü \u0000' }))
  await receive(database, [{ name: 'mirror', run }], ...callbacks)
  const events = (of: Database) =>
    of.sql`select account_id, callback_id, type, verified_by, raw from events order by callback_id`
  await eventually(async () => expect(await events(elsewhere)).toHaveLength(2))
  expect(await events(elsewhere)).toEqual(await events(database))
  expect(await elsewhere.sql`select from quarantine`).toEqual([])
})

test('a signed request verifies with each of the secrets, by the library of Standard Webhooks', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({ '/hook': (_request, response) => response.end() })
  const secrets = [1, 2].map((byte) => `whsec_${Buffer.alloc(24, byte).toString('base64')}`)
  await receive(database, [{ name: 'signed', run: to(endpoint.at('/hook'), { sign: { secrets } }) }], aCallback(1))
  const [{ headers, body }] = endpoint.received() as [Received]
  expect(headers['webhook-id']).toBe(headers['idempotency-key'])
  for (const secret of secrets)
    expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toMatchObject({ callbackId: '1' })
  const wrong = new Webhook(`whsec_${Buffer.alloc(24, 3).toString('base64')}`)
  expect(() => wrong.verify(body, headers as Record<string, string>)).toThrow(/No matching signature/)
})

test('a GET and a form arrive with what they are made of; a token that stands for nothing ends the delivery', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({
    '/get/sms_inbound': (_request, response) => response.end(),
    '/form': (_request, response) => response.end(),
  })
  const handlers = [
    { name: 'get', run: to(endpoint.at('/get/((type))?id=((callback_id))&text=((sms_inbound.text))'), { as: 'get' }) },
    { name: 'form', run: to(endpoint.at('/form'), { as: 'form', bearerToken: 'a-secret-token' }) },
    { name: 'nothing', run: to(endpoint.at('/form?((nothing))'), { as: 'get' }) },
  ]
  await receive(database, handlers, aCallback('9223372036854775807', { sms_inbound: { text: 'a&b' } }))
  expect(endpoint.received('/get/sms_inbound?id=9223372036854775807&text=a%26b')).toMatchObject([{ method: 'GET' }])
  const [form] = endpoint.received('/form')
  expect(form!.headers.authorization).toBe('Bearer a-secret-token')
  expect(Object.fromEntries(new URLSearchParams(form!.body))).toMatchObject({
    callback_id: '9223372036854775807',
    type: 'sms_inbound',
    sms_inbound: '{"text":"a&b"}',
  })
  expect(await historyOf(database, 'nothing')).toMatchObject({
    status: 'dead',
    attempts: [{ outcome: 'failed', error: 'the event has nothing for ((nothing))' }],
  })
})

test('events that make no request hold up none that do', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({ '/get': (_request, response) => response.end() })
  const handlers = [{ name: 'get', run: to(endpoint.at('/get?text=((sms_inbound.text))'), { as: 'get' }) }]
  const config = configWith({ handlers })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const untilDone = (count: number) =>
    eventually(async () =>
      expect(await database.sql`select from deliveries where status <> 'pending'`).toHaveLength(count),
    )
  await postCallbacks(ingest, ...Array.from({ length: 20 }, (_, index) => aCallback(index + 1)))
  await untilDone(20)
  await postCallbacks(ingest, aCallback(21, { sms_inbound: { text: 'hi' } }))
  await untilDone(21)
  expect(endpoint.received('/get?text=hi')).toHaveLength(1)
})

test('a hostile endpoint gets just the attempts that the policy says, each with its outcome', async () => {
  await using database = await freshDatabase()
  const timers = new Set<NodeJS.Timeout>()
  await using endpoint = await startEndpoint({
    '/hangs': () => {},
    '/resets': (request) => request.socket.resetAndDestroy(),
    '/recovers': (_request, response, count) => response.writeHead(count < 2 ? 500 : 200).end(`answer ${count + 1}`),
    '/refuses': (_request, response) => response.writeHead(422).end(),
    '/redirects': (_request, response) =>
      response.writeHead(307, { location: 'http://169.254.169.254/latest/meta-data/' }).end(),
    '/drips': (_request, response) => {
      response.writeHead(200)
      timers.add(setInterval(() => response.write('.'), 20))
    },
    '/floods': (_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
      }
      response.on('drain', more)
      more()
    },
  })
  const handlers = [
    { name: 'hangs', run: to(endpoint.at('/hangs'), { timeoutMs: 200 }), retry: soon },
    { name: 'resets', run: to(endpoint.at('/resets')), retry: soon },
    { name: 'recovers', run: to(endpoint.at('/recovers')), retry: soon },
    { name: 'refuses', run: to(endpoint.at('/refuses')), retry: { ...soon, neverRetry: [422] } },
    { name: 'redirects', run: to(endpoint.at('/redirects'), { maxRedirects: 3 }), retry: soon },
    { name: 'drips', run: to(endpoint.at('/drips'), { timeoutMs: 200 }), retry: soon },
    { name: 'floods', run: to(endpoint.at('/floods')), retry: soon },
  ]
  await receive(database, handlers, aCallback(1))
  for (const timer of timers) clearInterval(timer)

  const three = (attempt: Record<string, unknown>) => ({ status: 'dead', attempts: [attempt, attempt, attempt] })
  const timedOut = { outcome: 'failed', error: 'not done within 200 ms' }
  expect(await historyOf(database, 'hangs')).toMatchObject(three({ ...timedOut, status_code: null }))
  expect(await historyOf(database, 'drips')).toMatchObject(three({ ...timedOut, status_code: 200 }))
  expect(await historyOf(database, 'resets')).toMatchObject(three({ error: expect.stringMatching(/^no answer \(/) }))
  expect(await historyOf(database, 'redirects')).toMatchObject(
    three({ error: expect.stringMatching(/^the address 169\.254\.169\.254 is not a public one/) }),
  )
  expect(await historyOf(database, 'recovers')).toMatchObject({
    status: 'succeeded',
    lastError: null,
    attempts: [
      { outcome: 'failed', status_code: 500, error: 'answered 500', response: 'answer 1' },
      { outcome: 'failed', status_code: 500, error: 'answered 500', response: 'answer 2' },
      { outcome: 'succeeded', status_code: 200, error: null, response: 'answer 3' },
    ],
  })
  expect(await historyOf(database, 'refuses')).toMatchObject({ status: 'dead', attempts: [{ status_code: 422 }] })
  const floods = await historyOf(database, 'floods')
  expect(floods).toMatchObject({ status: 'succeeded', attempts: [{ status_code: 200, response: 'x'.repeat(2000) }] })

  const hangs = await historyOf(database, 'hangs')
  for (const { duration_ms } of hangs.attempts) {
    expect(duration_ms).toBeGreaterThanOrEqual(200)
    expect(duration_ms).toBeLessThan(2000)
  }
  const counts = ['/hangs', '/resets', '/recovers', '/refuses', '/redirects', '/drips', '/floods'].map(
    (path) => endpoint.received(path).length,
  )
  expect(counts).toEqual([3, 3, 3, 1, 3, 3, 1])
})

describe('a destination that asks to be spared:', () => {
  const startOne = async (database: Database, config: Config) => {
    const ingest = await startIngest(database, { config })
    const worker = await startWorker(database, { config })
    await postCallbacks(ingest, aCallback(1))
    await ingest.close()
    return worker
  }

  test('429 with Retry-After is obeyed, and the delivery succeeds after it', async () => {
    await using database = await freshDatabase()
    await using endpoint = await startEndpoint({
      '/hook': (_request, response, count) =>
        count === 0 ? response.writeHead(429, { 'retry-after': '90' }).end('slow down') : response.end(),
    })
    const config = configWith({ handlers: [{ name: 'limited', run: to(endpoint.at('/hook')), retry: soon }] })
    await using _worker = await startOne(database, config)
    await eventually(async () =>
      expect(await database.sql`select from attempts where outcome = 'failed' and status_code = 429`).toHaveLength(1),
    )
    const [delivery] = await database.sql`
      select status, extract(epoch from next_attempt_at - (select started_at from attempts))::float8 as wait from deliveries`
    expect(delivery!.status).toBe('pending')
    expect(delivery!.wait).toBeGreaterThanOrEqual(90)
    expect(delivery!.wait).toBeLessThan(100)
    await database.sql`update deliveries set next_attempt_at = now()`
    await untilEnded(database)
    expect(await historyOf(database, 'limited')).toMatchObject({
      status: 'succeeded',
      attempts: [{ status_code: 429, response: 'slow down' }, { status_code: 200 }],
    })
  })

  test('410 disables it, and its delivery waits for an operator', async () => {
    await using database = await freshDatabase()
    await using endpoint = await startEndpoint({ '/hook': (_request, response) => response.writeHead(410).end() })
    const config = configWith({ handlers: [{ name: 'gone', run: to(endpoint.at('/hook')), retry: soon }] })
    await using _worker = await startOne(database, config)
    await eventually(async () =>
      expect(await database.sql`select handler from destinations where state = 'disabled'`).toEqual([
        { handler: 'gone' },
      ]),
    )
    expect(await historyOf(database, 'gone')).toMatchObject({ status: 'pending', attempts: [{ status_code: 410 }] })
    expect(endpoint.received()).toHaveLength(1)
  })
})

describe('fallbackUrl', () => {
  test('is tried in the same attempt where the destination is down, busy or slow, and what answered is recorded', async () => {
    await using database = await freshDatabase()
    await using endpoint = await startEndpoint({
      '/fails': (_request, response) => response.writeHead(500).end(),
      '/busy': (_request, response) => response.writeHead(429).end(),
      '/hangs': () => {},
      '/fallback': (_request, response) => response.end('here'),
    })
    const fallbackUrl = endpoint.at('/fallback')
    const handlers = [
      { name: 'down', run: to('http://127.0.0.1:9/', { fallbackUrl }) },
      { name: 'fails', run: to(endpoint.at('/fails'), { fallbackUrl }) },
      { name: 'busy', run: to(endpoint.at('/busy'), { fallbackUrl }) },
      { name: 'hangs', run: to(endpoint.at('/hangs'), { fallbackUrl, timeoutMs: 900 }) },
    ]
    await receive(database, handlers, aCallback(1))
    const answeredFor = (error: string) => ({
      status: 'succeeded',
      attempts: [{ outcome: 'succeeded', status_code: 200, response: `[fallbackUrl answered; url: ${error}] here` }],
    })
    expect(await historyOf(database, 'down')).toMatchObject(answeredFor('no answer (ECONNREFUSED)'))
    expect(await historyOf(database, 'fails')).toMatchObject(answeredFor('answered 500'))
    expect(await historyOf(database, 'busy')).toMatchObject(answeredFor('answered 429'))
    expect(await historyOf(database, 'hangs')).toMatchObject(answeredFor('not done within 600 ms'))
    expect(endpoint.received('/fallback')).toHaveLength(4)
  })

  test('is not tried where the destination refuses, and where both fail the error names both', async () => {
    await using database = await freshDatabase()
    await using endpoint = await startEndpoint({
      '/refuses': (_request, response) => response.writeHead(400).end(),
      '/fails': (_request, response) => response.writeHead(500).end(),
      '/gone': (_request, response) => response.writeHead(410).end(),
      '/fallback': (_request, response) => response.end(),
    })
    const retry = { maxAttempts: 1 }
    await receive(
      database,
      [
        { name: 'refuses', run: to(endpoint.at('/refuses'), { fallbackUrl: endpoint.at('/fallback') }), retry },
        { name: 'both', run: to(endpoint.at('/fails'), { fallbackUrl: endpoint.at('/gone') }), retry },
      ],
      aCallback(1),
    )
    expect(await historyOf(database, 'refuses')).toMatchObject({ status: 'dead', lastError: 'answered 400' })
    expect(endpoint.received('/fallback')).toEqual([])
    expect(await historyOf(database, 'both')).toMatchObject({
      status: 'dead',
      lastError: 'answered 500; fallbackUrl: answered 410',
      attempts: [{ status_code: 500 }],
    })
    // Only its fallback is gone.
    expect(await database.sql`select handler, state from destinations where state <> 'closed'`).toEqual([])
  })
})

test('a destination that hangs delays no other', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({ '/hangs': () => {}, '/works': (_request, response) => response.end() })
  const config = configWith({
    handlers: [
      { name: 'hangs', run: to(endpoint.at('/hangs'), { timeoutMs: 20_000 }), retry: { maxAttempts: 1 } },
      { name: 'works', run: to(endpoint.at('/works')) },
    ],
  })
  const count = 300
  {
    await using ingest = await startIngest(database, { config })
    await postCallbacks(ingest, ...Array.from({ length: count }, (_, index) => aCallback(index + 1)))
  }
  await using worker = await startWorker(database, { config })
  const startedAt = performance.now()
  await eventually(async () =>
    expect(await database.sql`select from deliveries where handler = 'works' and status = 'succeeded'`).toHaveLength(
      count,
    ),
  )
  // Before a single one of the others has run out of time.
  expect(performance.now() - startedAt).toBeLessThan(15_000)
  expect(await database.sql`select from deliveries where handler = 'hangs' and status <> 'pending'`).toEqual([])
  await endpoint[Symbol.asyncDispose]() // lets the worker end
  expect(await worker.ready()).toBe(true)
})

test('credentials that a destination sends back are not kept', async () => {
  await using database = await freshDatabase()
  await using endpoint = await startEndpoint({
    '/echo': (request, response) => response.writeHead(400).end(JSON.stringify(request.headers)),
    '/echo-password': (request, response) => {
      const credentials = Buffer.from(request.headers.authorization!.slice('Basic '.length), 'base64').toString()
      response.writeHead(401).end(`nobody is ${credentials}`)
    },
  })
  const run = to(endpoint.at('/echo'), {
    basicAuth: { username: 'user', password: 'hush-hush' },
    headers: { 'X-Api-Key': 'hush-hush-hush' },
  })
  const withPassword = to(endpoint.at('/echo-password'), { basicAuth: { username: 'user', password: 'hush-hush' } })
  const retry = { maxAttempts: 1 }
  await receive(
    database,
    [
      { name: 'echo', run, retry },
      { name: 'password', run: withPassword, retry },
    ],
    aCallback(1),
  )
  expect(await historyOf(database, 'password')).toMatchObject({ attempts: [{ response: 'nobody is user:***' }] })
  const { attempts } = await historyOf(database, 'echo')
  expect(attempts[0]!.response).toContain('"authorization":"Basic ***"')
  expect(attempts[0]!.response).toContain('"x-api-key":"***"')
  expect(endpoint.received().map(({ headers }) => headers['x-api-key'])).toContain('hush-hush-hush')
})

test('a URL that a destination sends back is not kept, for it may be a secret', async () => {
  await using database = await freshDatabase()
  const echo: Answer = (request, response) => {
    const key = new URL(request.url!, 'http://localhost').searchParams.get('key')
    response.writeHead(404).end(`Cannot ${request.method} ${request.url}, key ${key}`)
  }
  await using endpoint = await startEndpoint({
    '/': echo,
    '/in/hush/1': echo,
    '/fails/hush': (_request, response) => response.writeHead(500).end('no /fails/hush here'),
  })
  const retry = { maxAttempts: 1 }
  await receive(
    database,
    [
      { name: 'get', run: to(endpoint.at('/in/hush/((callback_id))?key=hush-hush&a=1'), { as: 'get' }), retry },
      {
        name: 'fallback',
        run: to(endpoint.at('/fails/hush'), { fallbackUrl: endpoint.at('/in/hush/1?key=hush-hush') }),
        retry,
      },
      { name: 'root', run: to(endpoint.at('/')), retry },
    ],
    aCallback(1),
  )
  expect(JSON.stringify(await database.sql`select * from attempts`)).not.toContain('hush')
  expect(await historyOf(database, 'get')).toMatchObject({ attempts: [{ response: 'Cannot GET ******, key ***' }] })
  expect(await historyOf(database, 'fallback')).toMatchObject({ attempts: [{ response: 'no *** here' }] })
  expect(await historyOf(database, 'root')).toMatchObject({ attempts: [{ response: 'Cannot POST /, key null' }] })
})
