import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, inject, test } from 'vitest'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import { code, discord, email, pagerduty, queue, slack, teams } from '@ringback/core/handlers'
import { freePort } from './support/free-port.ts'
import { listen } from './support/listen.ts'
import { localCertificate, mailUser, startMailServer } from './support/mail-server.ts'
import type { MailServer } from './support/mail-server.ts'
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
import { proxyTo } from './support/tcp-proxy.ts'

/** Soon enough for a test. */
const soon = { firstDelayMs: 100, maxDelayMs: 100 }

function notifying(run: HandlerDefinition['run'], retry: HandlerDefinition['retry'] = { maxAttempts: 1 }): Config {
  return configWith({ handlers: [{ name: 'notify', run, retry: { ...soon, ...retry } }] })
}

/** Receives callbacks and waits until their deliveries have come to an end. */
async function receive(database: Database, config: Config, callbacks = [aCallback(1)]): Promise<void> {
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...callbacks)
  await untilDone(database, callbacks.length)
}

async function untilDone({ sql }: Database, count: number): Promise<void> {
  await eventually(async () => {
    expect(await sql`select from deliveries where status <> 'pending'`).toHaveLength(count)
    expect(await sql`select from attempts where outcome is null`).toHaveLength(0)
  })
}

function outcomes({ sql }: Database) {
  return sql`
    select d.status, d.attempts, d.last_error as error, a.status_code as code
    from deliveries as d left join attempts as a on a.delivery_id = d.id and a.number = d.attempts`
}

/** Everything that is kept of deliveries, for secrets to be looked for. */
async function kept({ sql }: Database): Promise<string> {
  return JSON.stringify([await sql`select * from deliveries`, await sql`select * from attempts`])
}

describe('email', () => {
  const { user, password } = mailUser
  const credentials = `${user}:${encodeURIComponent(password)}`
  const to = ['team@example.com', 'boss@example.com']

  function mailing({ port }: { port: number }, options: Partial<Parameters<typeof email>[0]> = {}) {
    const smtpUrl = `smtp://${credentials}@127.0.0.1:${port}`
    return email({ smtpUrl, from: 'Ringback <ringback@example.com>', to, ca: localCertificate().cert, ...options })
  }

  function idOf({ content }: MailServer['mails'][number]): string {
    return /^Message-ID: (.*)$/im.exec(content)![1]!
  }

  test('an event is one mail to all recipients, by STARTTLS and with the password', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer()
    const run = mailing(server, {
      subject: 'SMS: ((details.text))',
      text: 'It says ((details.text))',
      html: '<b>((details.text))</b>',
    })
    const callback = aCallback(1, { sms_inbound: { text: 'hi <i>\r\nBcc: all@example.com' } })
    await receive(database, notifying(run), [callback])
    expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 1, error: null, code: 250 }])
    const [mail, ...others] = server.mails
    expect(others).toEqual([])
    expect(mail).toMatchObject({ from: 'ringback@example.com', to, user, isEncrypted: true })
    expect(mail!.content).toMatch(/^Subject: SMS: hi <i> Bcc: all@example.com\r$/m)
    expect(mail!.content).toContain('<b>hi &lt;i&gt;')
    expect(mail!.content).toContain('It says hi <i>\r\n')
  })

  test('a mail that is refused for now is sent again, under the same Message-ID', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer({ refuseMail: (number) => (number === 1 ? 451 : undefined) })
    await receive(database, notifying(mailing(server), { maxAttempts: 3 }))
    expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 2, error: null, code: 250 }])
    const [delivery] = await database.sql<{ id: string }[]>`select id from deliveries`
    expect(server.mails.map(idOf)).toEqual(Array(2).fill(`<ringback.${delivery!.id}@example.com>`))
  })

  test('a mail that is refused for good is not sent again', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer({ refuseMail: () => 554 })
    await receive(database, notifying(mailing(server), { maxAttempts: 3 }))
    expect(await outcomes(database)).toEqual([
      { status: 'dead', attempts: 1, error: 'the mail server answered 554 to DATA', code: 554 },
    ])
  })

  test('one recipient who is refused is told of, and nobody gets the mail twice', async () => {
    await using database = await freshDatabase()
    const refuseRecipient = (address: string) => (address === 'boss@example.com' ? 450 : undefined)
    await using server = await startMailServer({ refuseRecipient })
    await receive(database, notifying(mailing(server), { maxAttempts: 3 }))
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', attempts: 1 }])
    expect((await outcomes(database))[0]!.error).toContain('refused boss@example.com; the other')
    expect(server.mails.map((mail) => mail.to)).toEqual([['team@example.com']])
  })

  test('a wrong password fails, and is not kept', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer()
    const smtpUrl = `smtp://${user}:wrong-secret@127.0.0.1:${server.port}`
    await receive(database, notifying(mailing(server, { smtpUrl })))
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', code: 535 }])
    expect(await kept(database)).not.toContain('wrong-secret')
  })

  test('a server that is not trusted gets neither password nor mail', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer()
    const smtpUrl = `smtp://${credentials}@127.0.0.1:${server.port}`
    await receive(database, notifying(email({ smtpUrl, from: 'ringback@example.com', to })))
    expect(await outcomes(database)).toMatchObject([
      { status: 'dead', error: expect.stringContaining('could not be talked to (DEPTH_ZERO_SELF_SIGNED_CERT)') },
    ])
    expect(server).toMatchObject({ logins: [], mails: [] })
  })

  test('a server without TLS gets neither, unless it is said to be one’s own', async () => {
    await using database = await freshDatabase()
    const hidden = { hideSTARTTLS: true, disabledCommands: ['STARTTLS'], allowInsecureAuth: true, authOptional: true }
    await using server = await startMailServer(hidden)
    await receive(database, notifying(mailing(server)))
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', error: expect.stringMatching(/ETLS|STARTTLS/) }])
    expect(server).toMatchObject({ logins: [], mails: [] })

    await using relayed = await freshDatabase()
    const smtpUrl = `smtp://127.0.0.1:${server.port}`
    await receive(relayed, notifying(mailing(server, { smtpUrl, requireTls: false })))
    expect(server.mails).toMatchObject([{ isEncrypted: false }])
  })

  test('a mail begins when it has a connection: none stands in line while its time runs', async () => {
    await using database = await freshDatabase()
    await using silent = await startSilentServer()
    const callbacks = Array.from({ length: 9 }, (_, index) => aCallback(index))
    await receive(database, notifying(mailing(silent, { timeoutMs: 1000 })), callbacks)
    const [{ together } = {}] = await database.sql`
      select max(count)::integer as together
      from (
        select count(*) over (order by started_at range between current row and '0.5 seconds'::interval following) from attempts
      ) as windows`
    expect(together).toBeLessThanOrEqual(5)
  })

  test('a server that says nothing costs no more than the time limit', async () => {
    await using database = await freshDatabase()
    await using silent = await startSilentServer()
    await receive(database, notifying(mailing(silent, { timeoutMs: 300 })))
    const [attempt] = await database.sql<{ error: string; ms: number }[]>`select error, duration_ms as ms from attempts`
    expect(attempt!.error).toBe('not done within 300 ms')
    expect(attempt!.ms).toBeLessThan(2000)
  })

  test('connections are few, used again, and closed with the worker', async () => {
    await using database = await freshDatabase()
    await using server = await startMailServer()
    const callbacks = Array.from({ length: 40 }, (_, index) => aCallback(index + 1))
    await receive(database, notifying(mailing(server)), callbacks)
    expect(new Set(server.mails.map(idOf)).size).toBe(40)
    expect(server.connections.opened).toBeLessThanOrEqual(5)
    await eventually(async () => expect(server.connections.open).toBe(0))
  })
})

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
    await receive(database, notifying(run(service.url)))
    expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 1, error: null, code: 202 }])
    expect(service.requests).toMatchObject([{ method: 'POST', path, type: 'application/json' }])
    expect(JSON.stringify(service.requests[0]!.body[field])).toMatch(/sms_inbound|sms\\\\_inbound/)
  })

  test('that the service does not understand is not sent again, and the URL is kept nowhere', async () => {
    await using database = await freshDatabase()
    await using service = await startService(400)
    const run = slack({ webhookUrl: `${service.url}/services/s3cret-path`, allowAddresses })
    await receive(database, notifying(run, { maxAttempts: 3 }))
    expect(await outcomes(database)).toEqual([{ status: 'dead', attempts: 1, error: 'answered 400', code: 400 }])
    expect(await kept(database)).not.toContain('s3cret-path')
  })

  test('that the service cannot take now is sent again', async () => {
    await using database = await freshDatabase()
    await using service = await startService(503, 202)
    const run = discord({ webhookUrl: `${service.url}/hook`, allowAddresses })
    await receive(database, notifying(run, { maxAttempts: 3 }))
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
    await receive(database, notifying(slack({ webhookUrl: `${service.url}/hook`, allowAddresses: ['10.0.0.0/8'] })))
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', code: null }])
    expect(service.requests).toEqual([])
  })
})

describe('queue', () => {
  const redisUrl = inject('redisUrl')

  test('an event is a job that a worker of BullMQ reads, and a replay is another one', async () => {
    await using database = await freshDatabase()
    const place = { name: 'crm', prefix: `{test-${randomBytes(6).toString('hex')}}` }
    const config = notifying(queue({ redisUrl, ...place, jobOptions: { removeOnFail: true } }))
    await receive(database, config, [aCallback('9007199254740993', { sms_inbound: { text: 'hi' } })])

    await using jobs = openQueue(redisUrl, place)
    const [delivery] = await database.sql<{ id: string }[]>`select id from deliveries`
    const job = await jobs.next()
    expect(job).toMatchObject({ id: delivery!.id, name: 'sms_inbound' })
    expect(job.data).toMatchObject({
      source: 'voximplant',
      callbackId: '9007199254740993',
      payload: { sms_inbound: { text: 'hi' } },
    })

    await database.sql`
      update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null, attempts_at_replay = attempts`
    await using _worker = await startWorker(database, { config })
    await untilDone(database, 1)
    expect((await jobs.next()).id).toBe(`${delivery!.id}-replay-1`)
  })

  test('an attempt that is repeated adds no second job, and the settings of the queue are left alone', async () => {
    await using database = await freshDatabase()
    const place = { name: 'crm', prefix: `{test-${randomBytes(6).toString('hex')}}` }
    const config = notifying(queue({ redisUrl, ...place }))
    await using jobs = openQueue(redisUrl, place, { isReading: false })
    await jobs.client.hset(`${place.prefix}:crm:meta`, 'opts.maxLenEvents', '77')
    await receive(database, config)
    await database.sql`update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null`
    await using _worker = await startWorker(database, { config })
    await untilDone(database, 1)
    expect(await outcomes(database)).toMatchObject([{ status: 'succeeded', attempts: 2 }])
    expect(await jobs.queue.getJobCounts('waiting')).toEqual({ waiting: 1 })
    expect(await jobs.client.hgetall(`${place.prefix}:crm:meta`)).toEqual({ 'opts.maxLenEvents': '77' })
  })

  test('a Redis that says nothing costs no more than the time limit, and its password is kept nowhere', async () => {
    await using database = await freshDatabase()
    await using silent = await startSilentServer()
    const url = `redis://:s3cret-word@127.0.0.1:${silent.port}`
    await receive(database, notifying(queue({ redisUrl: url, name: 'crm', timeoutMs: 300 })))
    expect(await outcomes(database)).toMatchObject([{ status: 'dead', error: expect.any(String) }])
    const [attempt] = await database.sql<{ ms: number }[]>`select duration_ms as ms from attempts`
    expect(attempt!.ms).toBeLessThan(2000)
    expect(await kept(database)).not.toContain('s3cret-word')
  })

  test.each([
    ['that is down', (port: number) => `redis://127.0.0.1:${port}`, 'ECONNREFUSED'],
    ['whose password is another', () => redisUrl.replace('//', '//nobody:s3cret-word@'), 'WRONGPASS'],
    ['without that database', () => `${redisUrl}/9999`, 'ERR DB index is out of range'],
    ['that is no cluster', () => redisUrl.replace(':', '+cluster:'), 'ERR This instance has cluster support disabled'],
  ])('the reason of a failure is told: a Redis %s', async (_state, urlOf, reason) => {
    await using database = await freshDatabase()
    await receive(database, notifying(queue({ redisUrl: urlOf(await freePort()), name: 'crm' })))
    const [outcome] = await outcomes(database)
    expect(outcome!.error).toContain(`the job could not be added (${reason}`)
    expect(await kept(database)).not.toContain('s3cret-word')
  })

  test('a Redis that was down, or froze, gets its jobs when it is back', async () => {
    await using database = await freshDatabase()
    await using proxy = await proxyTo(redisUrl)
    const place = { name: 'crm', prefix: `{test-${randomBytes(6).toString('hex')}}` }
    await using jobs = openQueue(redisUrl, place, { isReading: false })
    const retry = { maxAttempts: 100, ...soon }
    const config = notifying(queue({ redisUrl: proxy.url, ...place, timeoutMs: 300 }), retry)
    await using ingest = await startIngest(database, { config })
    await using _worker = await startWorker(database, { config })
    const untilFailed = (handled: number) =>
      eventually(async () => {
        const failed = database.sql`
          select from attempts as a join deliveries as d on d.id = a.delivery_id
          where a.outcome = 'failed' and d.status = 'pending'`
        expect((await failed).length).toBeGreaterThan(0)
        expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(handled)
      })

    await proxy.cut()
    await postCallbacks(ingest, aCallback(1))
    await untilFailed(0)
    await proxy.restore()
    await untilDone(database, 1)

    proxy.freeze()
    await postCallbacks(ingest, aCallback(2))
    await untilFailed(1)
    await proxy.restore()
    await untilDone(database, 2)
    expect(await jobs.queue.getJobCounts('waiting')).toEqual({ waiting: 2 })
  })
})

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

/** Takes connections and never says a word. */
async function startSilentServer(): Promise<{ port: number } & AsyncDisposable> {
  const server = createTcpServer((socket) => void socket.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { port, [Symbol.asyncDispose]: async () => void server.close() }
}

/** The user's own side of a queue; the keys are removed at the end. */
function openQueue(redisUrl: string, place: { name: string; prefix: string }, { isReading = true } = {}) {
  const client = new Redis(redisUrl, { maxRetriesPerRequest: null })
  const queue = new Queue(place.name, { connection: client, prefix: place.prefix, skipMetasUpdate: true })
  const jobs: { id: string | undefined; name: string; data: unknown }[] = []
  const process = async ({ id, name, data }: { id?: string; name: string; data: unknown }) => {
    jobs.push({ id, name, data })
  }
  const worker = isReading ? new Worker(place.name, process, { connection: client, prefix: place.prefix }) : undefined
  return {
    queue,
    client,
    next: () =>
      eventually(async () => {
        expect(jobs).not.toHaveLength(0)
        return jobs.shift()!
      }),
    async [Symbol.asyncDispose]() {
      await worker?.close()
      await queue.obliterate({ force: true })
      await queue.close()
      client.disconnect()
    },
  }
}
