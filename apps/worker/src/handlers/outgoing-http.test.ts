import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { ServerOptions } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { HandlerError } from '@ringback/core/handlers'
import { addressList } from '@ringback/core/providers/access'
import { describe, expect, test } from 'vitest'
import { makeCertificate } from '../../../../test/support/certificate.ts'
import { listen } from '../../../../test/support/listen.ts'
import { MAX_ATTEMPTS } from '../turns.ts'
import { createOutgoingHttp, readRetryAfter } from './outgoing-http.ts'
import type { Answer, OutgoingHttpOptions, OutgoingRequest } from './outgoing-http.ts'

/** A real server on loopback, with the requests that it got. */
async function startServer(listener: RequestListener, tls?: ServerOptions) {
  const requests: { method: string; path: string; headers: IncomingMessage['headers']; body: string }[] = []
  const take: RequestListener = async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString()
    requests.push({ method: request.method!, path: request.url!, headers: request.headers, body })
    listener(request, response)
  }
  const server = tls === undefined ? createServer(take) : createHttpsServer(tls, take)
  let connections = 0
  server.on('connection', () => (connections += 1))
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return {
    port,
    url: new URL(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}/`),
    requests,
    connections: () => connections,
    [Symbol.asyncDispose]: close,
  }
}

interface SendOptions extends Partial<Omit<OutgoingHttpOptions, 'allowAddresses'>> {
  allow?: string[]
}

function startHttp({ allow = ['127.0.0.1'], ...options }: SendOptions = {}) {
  const http = createOutgoingHttp({
    allowAddresses: addressList(allow, () => {}),
    maxRedirects: 0,
    clientCertificate: undefined,
    certificateOrigins: new Set(),
    timeoutMs: 5000,
    ...options,
  })
  return {
    send(request: Partial<OutgoingRequest> & { url: URL }, timeoutMs = 5000): Promise<Answer> {
      const defaults = { method: 'POST', headers: {}, body: Buffer.from('hello'), credentialHeaders: new Set<string>() }
      const signal = AbortSignal.timeout(timeoutMs)
      const timeoutMessage = `not done within ${timeoutMs} ms`
      return http.send({ ...defaults, ...request }, { signal, timeoutMessage, secrets: [] })
    },
    [Symbol.asyncDispose]: http.close,
  }
}

/** What a send failed with. */
async function failure(sent: Promise<Answer>): Promise<HandlerError> {
  const error = await sent.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  )
  if (!(error instanceof HandlerError)) throw error
  return error
}

describe('a destination that', () => {
  test('answers 2xx is a success, and its connection is used again', async () => {
    await using server = await startServer((_request, response) => response.writeHead(202).end('thanks'))
    await using http = startHttp()
    for (let count = 0; count < 10; count++)
      expect(await http.send({ url: server.url })).toEqual({ statusCode: 202, response: 'thanks' })
    // The second request can come while the first connection is being put back.
    expect(server.connections()).toBeLessThanOrEqual(2)
    expect(server.requests[0]).toMatchObject({ method: 'POST', body: 'hello' })
  })

  test('is known by a name has that looked up for its next connections, too', async () => {
    await using server = await startServer((_request, response) =>
      response.writeHead(200, { connection: 'close' }).end('here'),
    )
    await using http = startHttp()
    const url = new URL(`http://localhost:${server.port}/`)
    for (const together of [1, 3, 1]) await Promise.all(Array.from({ length: together }, () => http.send({ url })))
    expect(server.connections()).toBe(5)
  })

  test('says before its answer that it goes on, unasked, is waited for', async () => {
    await using server = await startServer((_, response) => {
      response.writeContinue()
      response.writeProcessing()
      response.end('fine')
    })
    await using http = startHttp()
    expect(await http.send({ url: server.url })).toEqual({ statusCode: 200, response: 'fine' })
    expect(server.requests).toHaveLength(1)
  })

  test('hangs has the time that it is given, and no more', async () => {
    await using server = await startServer(() => {})
    await using http = startHttp()
    const startedAt = performance.now()
    const error = await failure(http.send({ url: server.url }, 200))
    expect(error).toMatchObject({ message: 'not done within 200 ms', retryable: true })
    expect(performance.now() - startedAt).toBeLessThan(1500)
  })

  test('is slow gets as many requests at once as a worker has attempts: none stands in line while its time runs', async () => {
    const waiting: ServerResponse[] = []
    await using server = await startServer((_request, response) => {
      waiting.push(response)
      if (waiting.length === MAX_ATTEMPTS) for (const each of waiting) each.end()
    })
    await using http = startHttp({ timeoutMs: 60_000 })
    const sent = Array.from({ length: MAX_ATTEMPTS }, () => http.send({ url: server.url }, 60_000))
    expect(await Promise.all(sent)).toHaveLength(MAX_ATTEMPTS)
  })

  test('drips its answer slowly has that time too', async () => {
    await using server = await startServer((_request, response) => {
      response.writeHead(200)
      const drip = setInterval(() => response.write('.'), 20)
      response.on('close', () => clearInterval(drip))
    })
    await using http = startHttp()
    expect(await failure(http.send({ url: server.url }, 200))).toMatchObject({
      message: 'not done within 200 ms',
      statusCode: 200,
    })
  })

  test('resets the connection has failed', async () => {
    await using server = await startServer((request) => request.socket.resetAndDestroy())
    await using http = startHttp()
    const error = await failure(http.send({ url: server.url }))
    expect(error.message).toMatch(/^no answer \((ECONNRESET|UND_ERR_SOCKET)\)$/)
    expect(error.retryable).toBe(true)
  })

  test('breaks off in its answer has failed', async () => {
    await using server = await startServer((request, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('ten bytes.', () => request.socket.resetAndDestroy())
    })
    await using http = startHttp()
    const error = await failure(http.send({ url: server.url }))
    expect(error.message).toMatch(/^answered 200 and broke off \(/)
    expect(error).toMatchObject({ retryable: true, statusCode: 200 })
  })

  test('does not listen has failed', async () => {
    const { url } = await (async () => {
      await using server = await startServer(() => {})
      return server
    })()
    await using http = startHttp()
    expect(await failure(http.send({ url }))).toMatchObject({ message: 'no answer (ECONNREFUSED)', retryable: true })
  })

  test('answers without end is cut off at 64 KiB', async () => {
    const { promise: cut, resolve } = Promise.withResolvers<number>()
    await using server = await startServer((request, response) => {
      response.writeHead(200)
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
      }
      response.on('drain', more).on('close', () => resolve(request.socket.bytesWritten))
      more()
    })
    await using http = startHttp()
    expect((await http.send({ url: server.url })).response).toHaveLength(2000)
    expect(await cut).toBeLessThan(16 * 1024 * 1024) // what the sockets' buffers hold, not what it has to say
  })

  test('answers 410 is gone', async () => {
    await using server = await startServer((_request, response) => response.writeHead(410).end('bye'))
    await using http = startHttp()
    expect(await failure(http.send({ url: server.url }))).toMatchObject({ isGone: true, statusCode: 410 })
  })

  test.each([400, 404, 500])('answers %i has failed, and its answer is kept', async (status) => {
    await using server = await startServer((_request, response) => response.writeHead(status).end('why'))
    await using http = startHttp()
    expect(await failure(http.send({ url: server.url }))).toMatchObject({
      message: `answered ${status}`,
      retryable: true,
      isGone: false,
      statusCode: status,
      response: 'why',
      retryAfterMs: undefined,
    })
  })

  test.each([
    [429, 7000],
    [503, 7000],
    [500, undefined],
  ])('answers %i with Retry-After is waited for: %s ms', async (status, retryAfterMs) => {
    await using server = await startServer((_request, response) =>
      response.writeHead(status, { 'retry-after': '7' }).end(),
    )
    await using http = startHttp()
    expect(await failure(http.send({ url: server.url }))).toMatchObject({ statusCode: status, retryAfterMs })
  })
})

test('Retry-After is a number of seconds or a date; anything else asks for nothing', () => {
  const now = Date.parse('2026-03-01T12:00:00Z')
  expect(readRetryAfter('120', now)).toBe(120_000)
  expect(readRetryAfter('120 ', now)).toBe(120_000)
  expect(readRetryAfter('59.5', now)).toBe(59_500)
  expect(readRetryAfter('99999999999', now)).toBeGreaterThan(3_600_000)
  expect(readRetryAfter('Sun, 01 Mar 2026 12:00:30 GMT', now)).toBe(30_000)
  expect(readRetryAfter('Sun, 01 Mar 2026 11:00:00 GMT', now)).toBe(0)
  for (const value of [undefined, '', 'soon', '-1x']) expect(readRetryAfter(value, now)).toBeUndefined()
})

describe('an address that is not public is not connected to', () => {
  test.each(['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', 'localhost'])('%s', async (host) => {
    await using server = await startServer((_request, response) => response.end())
    await using http = startHttp({ allow: [] })
    const error = await failure(http.send({ url: new URL(`http://${host}:${server.port}/`) }))
    expect(error.message).toMatch(/is not a public one.*allowAddresses/)
    expect(server.connections()).toBe(0)
  })

  test('of a name that stands for several, only the allowed ones are tried', async () => {
    await using server = await startServer((_request, response) => response.end('here'))
    await using http = startHttp({ allow: ['127.0.0.1'] })
    expect(await http.send({ url: new URL(`http://localhost:${server.port}/`) })).toMatchObject({ response: 'here' })
  })

  test.each(['http://127.0.0.2', 'http://169.254.169.254', 'http://[fd00:ec2::254]', 'http://2130706434'])(
    'by a redirect to %s',
    async (to) => {
      await using server = await startServer((_request, response) =>
        response.writeHead(307, { location: `${to}/` }).end(),
      )
      await using http = startHttp({ maxRedirects: 3 })
      expect((await failure(http.send({ url: server.url }))).message).toMatch(/is not a public one/)
      expect(server.requests).toHaveLength(1)
    },
  )
})

describe('a redirect', () => {
  test('is a failure that says so where none is asked for', async () => {
    await using server = await startServer((_request, response) => response.writeHead(302, { location: '/b' }).end())
    await using http = startHttp()
    expect(await failure(http.send({ url: server.url }))).toMatchObject({
      message: 'answered 302, a redirect; maxRedirects is 0, so none is followed',
      statusCode: 302,
      retryable: true,
    })
    expect(server.requests).toHaveLength(1)
  })

  test.each([301, 302, 307, 308])('by %i takes method and body along', async (status) => {
    await using server = await startServer((request, response) =>
      request.url === '/' ? response.writeHead(status, { location: '/b' }).end() : response.end('moved'),
    )
    await using http = startHttp({ maxRedirects: 1 })
    expect(await http.send({ url: server.url })).toEqual({ statusCode: 200, response: 'moved' })
    expect(server.requests[1]).toMatchObject({ method: 'POST', path: '/b', body: 'hello' })
  })

  test('leads to its own path and query, though those of the request were spelled otherwise', async () => {
    await using server = await startServer((request, response) =>
      request.url === '/there' ? response.end() : response.writeHead(307, { location: '/there' }).end(),
    )
    await using http = startHttp({ maxRedirects: 1 })
    await http.send({ url: server.url, target: `/?text=it's` })
    expect(server.requests.map(({ path }) => path)).toEqual([`/?text=it's`, '/there'])
  })

  test('by 303 asks for a GET', async () => {
    await using server = await startServer((request, response) =>
      request.url === '/' ? response.writeHead(303, { location: '/b' }).end() : response.end(),
    )
    await using http = startHttp({ maxRedirects: 1 })
    await http.send({ url: server.url, headers: { 'content-type': 'text/plain' } })
    expect(server.requests[1]).toMatchObject({ method: 'GET', body: '' })
    expect(server.requests[1]!.headers).not.toHaveProperty('content-type')
  })

  test('is followed as often as is asked for, and no more', async () => {
    await using server = await startServer((_request, response) => response.writeHead(307, { location: '/' }).end())
    await using http = startHttp({ maxRedirects: 2 })
    expect((await failure(http.send({ url: server.url }))).message).toMatch(/more than the 2 of maxRedirects/)
    expect(server.requests).toHaveLength(3)
  })

  test('to another origin takes no credentials along; within one it does', async () => {
    await using other = await startServer((_request, response) => response.end())
    await using server = await startServer((request, response) =>
      response.writeHead(307, { location: request.url === '/' ? '/b' : other.url.href }).end(),
    )
    await using http = startHttp({ maxRedirects: 2 })
    await http.send({
      url: server.url,
      headers: { authorization: 'Bearer hush', 'x-key': 'hush', 'idempotency-key': 'abc' },
      credentialHeaders: new Set(['authorization', 'x-key']),
    })
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer hush', 'Bearer hush'])
    expect(other.requests[0]!.headers).toMatchObject({ 'idempotency-key': 'abc' })
    expect(JSON.stringify(other.requests)).not.toContain('hush')
  })

  test.each(['ftp://127.0.0.1/', 'file:///etc/passwd', 'http://'])('to %s is not followed', async (location) => {
    await using server = await startServer((_request, response) => response.writeHead(307, { location }).end())
    await using http = startHttp({ maxRedirects: 3 })
    expect((await failure(http.send({ url: server.url }))).message).toMatch(/to no http or https URL/)
  })
})

describe('with TLS', () => {
  const ofServer = makeCertificate('server')
  const ofClient = { ...makeCertificate('client'), ca: ofServer.cert }
  const asksForCertificate = { ...ofServer, requestCert: true, rejectUnauthorized: true, ca: ofClient.cert }
  const sayWho: RequestListener = (request, response) => {
    const { subject } = (request.socket as TLSSocket).getPeerCertificate()
    response.end(`hello ${[subject?.CN].flat()[0] ?? 'stranger'}`)
  }

  test('a client certificate lets in, and none does not', async () => {
    await using server = await startServer(sayWho, asksForCertificate)
    await using known = startHttp({
      clientCertificate: ofClient,
      certificateOrigins: new Set([server.url.origin]),
    })
    expect((await known.send({ url: server.url })).response).toBe('hello client')
    const other = { ...makeCertificate('other'), ca: ofServer.cert }
    await using unknown = startHttp({ clientCertificate: other, certificateOrigins: new Set([server.url.origin]) })
    expect((await failure(unknown.send({ url: server.url }))).message).toMatch(/^no answer \(/)
  })

  test('a certificate of an unknown authority is refused', async () => {
    await using server = await startServer(sayWho, ofServer)
    await using http = startHttp()
    expect((await failure(http.send({ url: server.url }))).message).toBe('no answer (DEPTH_ZERO_SELF_SIGNED_CERT)')
    expect(server.requests).toEqual([])
  })

  test('a redirect to another origin does not get to see the client certificate', async () => {
    await using other = await startServer(sayWho, { ...asksForCertificate, rejectUnauthorized: false })
    await using server = await startServer(
      (_request, response) => response.writeHead(307, { location: other.url.href }).end(),
      asksForCertificate,
    )
    await using http = startHttp({
      maxRedirects: 1,
      clientCertificate: ofClient,
      certificateOrigins: new Set([server.url.origin]),
    })
    expect((await http.send({ url: server.url })).response).toBe('hello stranger')
  })

  test('a redirect from https to http is not followed', async () => {
    await using plain = await startServer((_request, response) => response.end())
    await using server = await startServer(
      (_request, response) => response.writeHead(307, { location: plain.url.href }).end(),
      ofServer,
    )
    await using http = startHttp({
      maxRedirects: 1,
      clientCertificate: ofClient,
      certificateOrigins: new Set([server.url.origin]),
    })
    expect((await failure(http.send({ url: server.url }))).message).toMatch(/from https to http, not followed/)
    expect(plain.requests).toEqual([])
  })
})

test('errors hold nothing of the URL', async () => {
  await using http = startHttp()
  for (const url of ['http://127.0.0.1:9/hush', 'http://hush.invalid/hush', 'http://10.0.0.1/hush'])
    expect((await failure(http.send({ url: new URL(url) }))).message).not.toContain('hush')
})
