import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { code, discord, pagerduty, slack, teams } from '@ringback/core/handlers'
import { deliver, kept, notifying, outcomes } from './support/deliver.ts'
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

/** A service that takes messages, with the statuses given in turn, the last of them from then on. */
async function startService(...statuses: number[]) {
  const requests: { method: string; path: string; type: string; body: Record<string, unknown> }[] = []
  const server = createServer(async (request, response) => {
    const { method = '', url: path = '', headers } = request
    const body = (await json(request)) as Record<string, unknown>
    requests.push({ method, path, type: headers['content-type'] ?? '', body })
    const status = statuses.length > 1 ? statuses.shift() : statuses[0]
    response.writeHead(status ?? 202).end(`you called ${path}`)
  })
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return { url: `http://127.0.0.1:${port}`, requests, [Symbol.asyncDispose]: close }
}

describe('a message', () => {
  const allowAddresses = ['127.0.0.1']

  test.each([
    ['Slack', (url: string) => slack({ webhookUrl: `${url}/hook`, allowAddresses }), '/hook', 'text'],
    [
      'Discord',
      (url: string) => discord({ webhookUrl: `${url}/hook?wait=true`, allowAddresses }),
      '/hook?wait=true',
      'content',
    ],
    [
      'Teams',
      (url: string) => teams({ webhookUrl: `${url}/hook?sig=x`, allowAddresses }),
      '/hook?sig=x',
      'attachments',
    ],
    [
      'PagerDuty',
      (url: string) => pagerduty({ routingKey: 'key', baseUrl: url, allowAddresses }),
      '/v2/enqueue',
      'payload',
    ],
  ])('for %s is one POST of JSON, which names the event', async (_service, run, path, field) => {
    await using database = await freshDatabase()
    await using service = await startService()
    await deliver(database, notifying(run(service.url)), aCallback(1))
    expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 1, error: null, code: 202 }])
    expect(service.requests).toMatchObject([{ method: 'POST', path, type: 'application/json' }])
    expect(JSON.stringify(service.requests[0]!.body[field])).toMatch(/sms_inbound|sms\\\\_inbound/)
  })

  test('that the service does not understand is not sent again, and the URL is kept nowhere', async () => {
    await using database = await freshDatabase()
    await using service = await startService(400)
    const run = slack({ webhookUrl: `${service.url}/services/s3cret-path`, allowAddresses })
    await deliver(database, notifying(run, { maxAttempts: 3 }), aCallback(1))
    expect(await outcomes(database)).toEqual([{ status: 'dead', attempts: 1, error: 'answered 400', code: 400 }])
    expect(await kept(database)).not.toContain('s3cret-path')
  })

  test('that the service cannot take now is sent again', async () => {
    await using database = await freshDatabase()
    await using service = await startService(503, 202)
    const run = discord({ webhookUrl: `${service.url}/hook`, allowAddresses })
    await deliver(database, notifying(run, { maxAttempts: 3 }), aCallback(1))
    expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 2, error: null, code: 202 }])
  })

  test('of an alert that is over triggers no incident at PagerDuty, which would stay open', async () => {
    await using database = await freshDatabase()
    await using service = await startService(503, 202)
    let isDown = true
    const fail = () => {
      if (isDown) throw new Error('down')
    }
    const page = pagerduty({ routingKey: 'key', baseUrl: service.url, allowAddresses })
    const config = configWith({
      alerts: { consecutiveFailures: 1, disabled: ['dead_letters'] },
      handlers: [
        // Its next delivery succeeds, and that ends the alert: another attempt of the first would end it too soon.
        { name: 'crm', run: code(fail), retry: { maxAttempts: 1 } },
        // Not again by itself: the test says when, which is after the alert is over.
        { name: 'page', on: { source: 'ringback' }, run: page, retry: { delaysMs: [600_000] } },
      ],
    })
    await using ingest = await startIngest(database, { config })
    await using _worker = await startWorker(database, { config, monitoringIntervalMs: 100 })
    const actions = () => service.requests.map(({ body }) => body.event_action)
    const deliveries = () => database.sql`
      select e.type, d.status, d.attempts from deliveries as d join events as e on e.id = d.event_id
      where d.handler = 'page' order by d.created_at`
    const resolved = { type: 'alert.resolved', status: 'succeeded', attempts: 1 }

    await postCallbacks(ingest, aCallback(1))
    await eventually(async () => expect(actions()).toEqual(['trigger']))
    isDown = false
    await postCallbacks(ingest, aCallback(2))
    await eventually(async () =>
      expect(await deliveries()).toMatchObject([{ type: 'alert.raised', status: 'pending', attempts: 1 }, resolved]),
    )
    await database.sql`update deliveries set next_attempt_at = now() where status = 'pending'`
    await eventually(async () =>
      expect(await deliveries()).toMatchObject([{ type: 'alert.raised', status: 'succeeded', attempts: 2 }, resolved]),
    )
    expect(actions()).toEqual(['trigger', 'resolve'])
    expect(await database.sql`select status_code, response from attempts where number = 2`).toEqual([
      { status_code: null, response: '[not sent: the alert is over]' },
    ])
  })

  test('does not go to an address within, unless it is allowed', async () => {
    await using database = await freshDatabase()
    await using service = await startService()
    await deliver(
      database,
      notifying(slack({ webhookUrl: `${service.url}/hook`, allowAddresses: ['10.0.0.0/8'] })),
      aCallback(1),
    )
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', code: null }])
    expect(service.requests).toEqual([])
  })
})
