import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import { expect, test } from 'vitest'
import { listen } from './support/listen.ts'
import { configFileWith, end, ingestPort, runApp } from './support/processes.ts'
import { aCallback, eventually, freshDatabase, environmentFor } from './support/ringback.ts'

interface Exported {
  service: string
  name: string
  kind: number
  traceId: string
  spanId: string
  parentSpanId: string | undefined
  links: { traceId: string; spanId: string }[]
  attributes: Record<string, unknown>
  failed: boolean
}

/** OTLP as JSON, as far as it is read here. */
interface ExportRequest {
  resourceSpans: {
    resource: { attributes: Attribute[] }
    scopeSpans: {
      spans: (Omit<Exported, 'service' | 'attributes' | 'failed'> & {
        attributes: Attribute[]
        status: { code: number }
      })[]
    }[]
  }[]
}

interface Attribute {
  key: string
  value: Record<string, unknown>
}

const valuesOf = (attributes: Attribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

/** A collector, which keeps the spans it is sent, and beside it a destination, which keeps headers. */
async function startCollector() {
  const spans: Exported[] = []
  const forwarded: IncomingHttpHeaders[] = []
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString()
    response.setHeader('content-type', 'application/json').end('{}')
    if (request.url === '/destination') forwarded.push(request.headers)
    if (request.url !== '/v1/traces') return
    for (const { resource, scopeSpans } of (JSON.parse(body) as ExportRequest).resourceSpans) {
      const service = String(valuesOf(resource.attributes)['service.name'])
      for (const { attributes, status, links, ...span } of scopeSpans.flatMap((scope) => scope.spans))
        spans.push({
          ...span,
          service,
          links: links ?? [],
          attributes: valuesOf(attributes),
          failed: status.code === 2,
        })
    }
  })
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return {
    url: `http://127.0.0.1:${port}`,
    forwarded,
    named: (name: string) => spans.filter((span) => span.name === name),
    [Symbol.asyncDispose]: close,
  }
}

const handlersFor = (url: string) => `[
  { name: 'crm', run: forward({ url: '${url}', allowAddresses: ['127.0.0.0/8'] }) },
  { name: 'fails', run: code(() => { throw new Error('no') }), retry: { maxAttempts: 1 } },
]`

async function postWith(port: number, traceparent: string, ...callbacks: unknown[]): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/callbacks/voximplant`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', traceparent },
    body: JSON.stringify({ callbacks }),
  })
  return response.status
}

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const callerSpanId = '00f067aa0ba902b7'

test('a request, its group and its attempts can be followed from one to the other, in the trace of its sender', async () => {
  await using database = await freshDatabase()
  await using collector = await startCollector()
  await using file = await configFileWith(handlersFor(`${collector.url}/destination`))
  const environment = {
    ...(await environmentFor(database)),
    LOG_LEVEL: 'info',
    RINGBACK_CONFIG: file.path,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  }
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  await using worker = runApp('worker', { ...environment, OTEL_SERVICE_NAME: 'our-worker' })
  const port = await ingestPort(ingest)
  await worker.prints(/worker\.started/)

  expect(await postWith(port, `00-${traceId}-${callerSpanId}-01`, aCallback(1), aCallback(2))).toBe(200)
  expect(await postWith(port, 'no traceparent', aCallback(3))).toBe(200)
  expect(await postWith(port, `00-${traceId}-${callerSpanId}-00`, aCallback(4))).toBe(200)
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status <> 'pending'`).toHaveLength(8),
  )
  // Their ends send what is left.
  await end(ingest)
  await end(worker)

  const requests = collector.named('callback.receive')
  expect(requests, 'the sender did not want the trace of its last request').toHaveLength(2)
  const request = requests.find((span) => span.traceId === traceId)!
  expect(request).toMatchObject({
    service: 'ringback-ingest',
    kind: 2,
    parentSpanId: callerSpanId,
    attributes: {
      'ringback.source': 'voximplant',
      'ringback.outcome': 'accepted',
      'http.response.status_code': 200,
    },
  })
  const own = requests.find((span) => span !== request)!
  expect(own.parentSpanId).toBeUndefined()

  const linked = collector.named('group.store').flatMap(({ links }) => links.map(({ spanId }) => spanId))
  expect(linked).toEqual(expect.arrayContaining([request.spanId, own.spanId]))
  expect(new Set(linked).size, 'callbacks of one request have one link').toBe(linked.length)

  const attempts = collector.named('delivery.attempt')
  expect(attempts).toHaveLength(6)
  const ofRequest = attempts.filter((span) => span.traceId === traceId)
  expect(ofRequest).toHaveLength(4)
  for (const attempt of ofRequest) {
    expect(attempt).toMatchObject({ service: 'our-worker', kind: 3, parentSpanId: request.spanId })
    expect(attempt.links).toMatchObject([{ traceId, spanId: request.spanId }])
  }
  const fails = ofRequest.filter(({ attributes }) => attributes['ringback.handler'] === 'fails')
  expect(fails).toMatchObject([
    { failed: true, attributes: { 'ringback.attempt': 1, 'ringback.outcome': 'failed' } },
    { failed: true },
  ])
  const forwards = attempts.filter(({ attributes }) => attributes['ringback.handler'] === 'crm')
  expect(forwards[0]).toMatchObject({ failed: false, attributes: { 'http.response.status_code': 200 } })
  const sampled = collector.forwarded.filter(({ traceparent }) => String(traceparent).endsWith('-01'))
  expect(sampled.map(({ traceparent }) => String(traceparent)).toSorted()).toEqual(
    forwards.map((span) => `00-${span.traceId}-${span.spanId}-01`).toSorted(),
  )
})

test('without OTEL_* no callback carries a traceparent and no request gets one', async () => {
  await using database = await freshDatabase()
  await using collector = await startCollector()
  await using file = await configFileWith(handlersFor(`${collector.url}/destination`))
  const environment = { ...(await environmentFor(database)), LOG_LEVEL: 'info', RINGBACK_CONFIG: file.path }
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  await using _worker = runApp('worker', environment)
  const port = await ingestPort(ingest)
  expect(await postWith(port, `00-${traceId}-${callerSpanId}-01`, aCallback(1))).toBe(200)
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status <> 'pending'`).toHaveLength(2),
  )
  expect(await database.sql`select traceparent from events`).toEqual([{ traceparent: null }])
  expect(collector.forwarded.map(({ traceparent }) => traceparent)).toEqual([undefined])
})
