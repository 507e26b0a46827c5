import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { DeliveryRule } from '@ringback/core/providers/provider'
import { expect, test } from 'vitest'
import { listen } from '../../../../test/support/listen.ts'
import { decide, sendAll } from './send-requests.ts'
import type { RequestToSend, SendPlan } from './send-requests.ts'

interface Seen {
  method: string | undefined
  url: string | undefined
  body: string
  pieces: number
  /** Whether the whole body came. */
  whole: boolean
}

/** A receiver on loopback that answers with `text` as `answer` says; undefined never answers. */
async function receiver(answer: (seen: Seen, number: number) => number | undefined, text = '{}') {
  const seen: Seen[] = []
  const server = createServer((request, response) => void receive(request, response))
  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const one: Seen = { method: request.method, url: request.url, body: '', pieces: 0, whole: false }
    seen.push(one)
    try {
      for await (const piece of request) {
        one.body += String(piece)
        one.pieces += 1
      }
    } catch {
      return
    }
    one.whole = request.complete
    const status = answer(one, seen.length)
    if (status !== undefined) response.writeHead(status).end(text)
  }
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return { seen, origin: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: close }
}

const rule: DeliveryRule = {
  timeoutMs: 2000,
  retryDelaysMs: [60_000, 60_000],
  isDelivered: (status) => status === 200,
  isRetried: (status) => status !== 410,
}

function aRequest({ body = '{"a":1}', ...rest }: { body?: string } & Partial<RequestToSend> = {}): () => RequestToSend {
  const headers = { 'content-type': 'application/json' }
  const method = body === '' ? ('GET' as const) : ('POST' as const)
  return () => ({
    make: () => ({ method, path: '/x?y=1', headers, body: Buffer.from(body) }),
    dropped: false,
    isProviders: true,
    ...rest,
  })
}

const send = (origin: string, plan: Partial<SendPlan>) =>
  sendAll({
    origin,
    requests: [aRequest()],
    delivery: rule,
    maxRetryDelayMs: 5,
    slowBodyMs: 0,
    batch: 1,
    ratePerSecond: undefined,
    concurrency: 1,
    onProgress: () => {},
    ...plan,
  })

test('what is delivered is sent once, as it was made', async () => {
  await using server = await receiver(() => 200)
  const report = await send(server.origin, { requests: Array.from({ length: 20 }, () => aRequest()), concurrency: 4 })
  expect(report).toMatchObject({
    requests: { accepted: 20, refused: 0, givenUp: 0, failed: 0, byStatus: { 200: 20 } },
    attempts: { total: 20, retries: 0 },
  })
  expect(server.seen[0]).toMatchObject({ method: 'POST', url: '/x?y=1', body: '{"a":1}' })
})

test('a failure is tried again until it is delivered', async () => {
  await using server = await receiver((_seen, number) => (number < 3 ? 503 : 200))
  expect(await send(server.origin, {})).toMatchObject({
    requests: { accepted: 1, byStatus: { 200: 1 } },
    attempts: { total: 3, retries: 2 },
  })
})

test('after its last attempt the provider gives up', async () => {
  await using server = await receiver(() => 500)
  expect(await send(server.origin, {})).toMatchObject({
    requests: { accepted: 0, givenUp: 1, failed: 0, byStatus: { 500: 1 } },
    attempts: { total: 3, retries: 2 },
  })
})

test('nobody listening is a failure like another', async () => {
  expect(await send('http://127.0.0.1:1', {})).toMatchObject({
    requests: { givenUp: 1, byStatus: { ECONNREFUSED: 1 } },
    attempts: { total: 3 },
  })
})

test('no answer within the time limit is a failure, however slowly the body was sent', async () => {
  await using server = await receiver(() => undefined)
  const started = performance.now()
  const delivery = { ...rule, timeoutMs: 100, retryDelaysMs: [] }
  expect(await send(server.origin, { delivery, slowBodyMs: 100 })).toMatchObject({
    requests: { failed: 1, byStatus: { timeout: 1 } },
  })
  expect(performance.now() - started).toBeGreaterThan(190)
})

test('a slow body comes in pieces over the time, and whole', async () => {
  await using server = await receiver(() => 200)
  const body = JSON.stringify({ text: 'x'.repeat(1000) })
  const report = await send(server.origin, { requests: [aRequest({ body })], slowBodyMs: 200 })
  expect(report.requests.accepted).toBe(1)
  expect(report.latencyMs.max).toBeGreaterThan(190)
  expect(server.seen[0]).toMatchObject({ body, whole: true })
  expect(server.seen[0]!.pieces).toBeGreaterThan(4)
})

test.each(['{"text":"xxxxxxxxxx"}', 'x', ''])(
  'a connection dropped in the middle of %j is tried again, whole',
  async (body) => {
    await using server = await receiver(({ whole }) => (whole ? 200 : undefined))
    expect(await send(server.origin, { requests: [aRequest({ body, dropped: true })] })).toMatchObject({
      requests: { accepted: 1, byStatus: { 200: 1 } },
      attempts: { total: 2, retries: 1 },
    })
    expect(server.seen.at(-1)).toMatchObject({ body, whole: true })
    expect(server.seen.filter(({ whole }) => whole)).toHaveLength(1)
  },
)

test('a drop is a failure where the provider never tries again', async () => {
  await using server = await receiver(() => 200)
  const delivery = { ...rule, retryDelaysMs: [] }
  expect(await send(server.origin, { requests: [aRequest({ dropped: true })], delivery })).toMatchObject({
    requests: { failed: 1, byStatus: { dropped: 1 } },
    attempts: { total: 1, retries: 0 },
  })
})

test('one connection sends other requests while one pauses', async () => {
  const order: string[] = []
  await using server = await receiver(({ body }) => {
    order.push(body)
    return body === 'a' && order.length === 1 ? 503 : 200
  })
  const requests = ['a', 'b', 'c'].map((body) => aRequest({ body }))
  expect(await send(server.origin, { requests, maxRetryDelayMs: 200 })).toMatchObject({ requests: { accepted: 3 } })
  expect(order).toEqual(['a', 'b', 'c', 'a'])
})

test('an answer as long as a page of HTML keeps no connection', async () => {
  await using server = await receiver(() => 200, 'x'.repeat(500_000))
  const report = await send(server.origin, { requests: [aRequest(), aRequest(), aRequest()] })
  expect(report).toMatchObject({ requests: { accepted: 3 }, attempts: { retries: 0 } })
})

test('callbacks are sent no faster than the rate, however many a request has', async () => {
  await using server = await receiver(() => 200)
  const requests = Array.from({ length: 4 }, () => aRequest())
  const { seconds } = await send(server.origin, { requests, batch: 10, ratePerSecond: 100, concurrency: 4 })
  expect(seconds).toBeGreaterThanOrEqual(0.29)
})

const provider = { isProviders: true }
const forger = { isProviders: false }

test.each([
  ['200', provider, 1, { kind: 'end', ending: 'accepted' }],
  ['204', provider, 1, { kind: 'retry', delayMs: 60_000 }],
  ['401', provider, 1, { kind: 'retry', delayMs: 60_000 }],
  ['401', provider, 3, { kind: 'end', ending: 'givenUp' }],
  ['401', forger, 1, { kind: 'end', ending: 'refused' }],
  ['503', forger, 1, { kind: 'retry', delayMs: 60_000 }],
  ['410', provider, 1, { kind: 'end', ending: 'refused' }],
  ['410', provider, 2, { kind: 'end', ending: 'refused' }],
  ['timeout', provider, 2, { kind: 'retry', delayMs: 60_000 }],
  ['timeout', provider, 3, { kind: 'end', ending: 'givenUp' }],
] as const)('%s to %j at attempt %d', (answer, request, attempts, decision) => {
  expect(decide(answer, { request, attempts }, rule)).toEqual(decision)
})

test.each([
  ['200', 'accepted'],
  ['404', 'refused'],
  ['301', 'failed'],
  ['500', 'failed'],
  ['ECONNRESET', 'failed'],
])('a provider that never tries again takes %s for %s', (answer, ending) => {
  const decision = decide(answer, { request: provider, attempts: 1 }, { ...rule, retryDelaysMs: [] })
  expect(decision).toEqual({ kind: 'end', ending })
})
