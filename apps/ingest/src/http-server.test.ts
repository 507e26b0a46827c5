import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { defaultHttpLimits, listen } from './http-server.ts'
import type { HttpLimits, HttpServer } from './http-server.ts'

/** A server that answers with the length of what came, after `answerMs`. */
async function start({
  answerMs = 0,
  ...limits
}: Partial<HttpLimits> & { answerMs?: number } = {}): Promise<HttpServer> {
  const answer = async (request: Request) => {
    const { length } = await request.text()
    await sleep(answerMs)
    return new Response(`got ${length}`)
  }
  const server = await listen(answer, { hostname: '127.0.0.1', port: 0 }, { ...defaultHttpLimits, ...limits })
  onTestFinished(() => server.close(0))
  return server
}

interface Client {
  socket: Socket
  /** What the server has sent so far. */
  received: () => string
  /** Resolves to all that the server sent, when it has ended the connection; rejects if it has reset it. */
  ended: Promise<string>
}

async function client({ port }: HttpServer): Promise<Client> {
  const socket = connect(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  let text = ''
  socket.on('data', (chunk) => (text += String(chunk)))
  const ended = once(socket, 'close').then(() => text)
  ended.catch(() => undefined) // for tests that do not ask
  await once(socket, 'connect')
  return { socket, received: () => text, ended }
}

const REQUEST = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc'

async function answered({ received }: Client, count = 1): Promise<void> {
  await expect.poll(() => received().split('HTTP/1.1 200').length - 1, { timeout: 5000 }).toBe(count)
}

describe('a server that closes', () => {
  test('takes everything until its delay is over, and every answer says that the connection ends', async () => {
    const server = await start({ answerMs: 100 })
    const inHand = await client(server)
    const idle = await client(server)
    idle.socket.write(REQUEST)
    await answered(idle)
    expect(idle.received()).not.toMatch(/connection: close/i)

    inHand.socket.write(REQUEST)
    await sleep(50)
    const closing = server.close(500)
    expect(await inHand.ended).toMatch(/connection: close/i)
    idle.socket.write(REQUEST)
    expect((await idle.ended).match(/connection: close/gi)).toHaveLength(1)
    const late = await client(server)
    late.socket.write(REQUEST)
    expect(await late.ended).toMatch(/200 OK[^]*connection: close[^]*got 3/i)
    await closing
    await expect(client(server)).rejects.toThrow('ECONNREFUSED')
  })

  test('answers all that one client has pipelined, and says so only with the last answer', async () => {
    const server = await start({ answerMs: 100 })
    const ahead = await client(server)
    ahead.socket.write(REQUEST + REQUEST)
    await sleep(50)
    const closing = server.close(300)
    ahead.socket.write(REQUEST)
    const text = await ahead.ended
    expect(text.match(/200 OK/g)).toHaveLength(3)
    expect(text.match(/connection: close/gi)).toHaveLength(1)
    await closing
  })

  test('answers a request that was half sent, and cuts off one whose rest does not come', async () => {
    const server = await start()
    const [half, slow] = [await client(server), await client(server)]
    for (const { socket } of [half, slow]) socket.write(REQUEST.slice(0, -1))
    await sleep(50)
    const startedAt = performance.now()
    const closing = server.close(0)
    await sleep(500)
    half.socket.write('c')
    expect(await half.ended).toMatch(/200 OK[^]*connection: close[^]*got 3/i)
    await closing
    expect(await slow.ended).toBe('')
    expect(performance.now() - startedAt).toBeLessThan(3000)
  })

  test('resets no request of clients that connect anew for each, as long as the port takes connections', async () => {
    const [rounds, clients] = [10, 32]
    let sent = 0
    for (let round = 0; round < rounds; round++) {
      const server = await start()
      let isOpen = true
      const failures: string[] = []
      const senders = Array.from({ length: clients }, async () => {
        while (isOpen) {
          try {
            const { socket, ended } = await client(server)
            socket.write(REQUEST)
            sent += 1
            if (!(await ended).includes('got 3')) failures.push('no answer')
          } catch (error) {
            const { code } = error as NodeJS.ErrnoException
            if (code === 'ECONNREFUSED') isOpen = false
            else failures.push(code!)
          }
        }
      })
      // Each of them connects anew from here on.
      await server.close(100)
      await Promise.all(senders)
      expect(failures).toEqual([])
    }
    // If the machine stalls during a round, none may connect a second time.
    expect(sent).toBeGreaterThan(rounds * clients)
  })

  test('resets no request that came while the process was held up', async () => {
    const server = await start()
    const closing = server.close(0)
    await sleep(0) // which the server does too: from here on it looks whether anybody comes
    const answers = Array.from({ length: 10 }, async () => {
      const { socket, ended } = await client(server)
      socket.write(REQUEST)
      return ended
    })
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700))
    for (const answer of await Promise.all(answers)) expect(answer).toMatch(/200 OK/)
    await closing
  })
})

describe('a client that wastes time', () => {
  const limits = { headersMs: 300, requestMs: 600, silenceMs: 900, keepAliveMs: 300, checkIntervalMs: 50 }

  test.each([
    ['says nothing', ''],
    ['does not end its headers', 'POST / HTTP/1.1\r\nHost: a\r\n'],
    ['does not end its body', REQUEST.slice(0, -1)],
  ])('and %s is told 408 and cut off', async (_name, text) => {
    const wasting = await client(await start(limits))
    wasting.socket.write(text)
    expect(await wasting.ended).toMatch(/^HTTP\/1.1 408/)
  })

  test('by sending a byte now and then wins no time with it', async () => {
    const server = await start(limits)
    const [headers, body] = [await client(server), await client(server)]
    headers.socket.write('POST / HTTP/1.1\r\n')
    body.socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n')
    const dripping = setInterval(() => {
      headers.socket.write('a')
      body.socket.write('a')
    }, 50)
    onTestFinished(() => clearInterval(dripping))
    const startedAt = performance.now()
    await Promise.all([headers.ended, body.ended].map((ended) => ended.catch(() => undefined)))
    expect(performance.now() - startedAt).toBeLessThan(2000)
  })

  test('by keeping its connection without using it loses it', async () => {
    const idle = await client(await start(limits))
    idle.socket.write(REQUEST)
    expect(await idle.ended).toMatch(/200 OK/)
  })

  test('by never reading its answers is cut off', async () => {
    const server = await start(limits)
    const deaf = await client(server)
    deaf.socket.pause()
    // More answers than the buffers between the two hold; the server stops reading when they are full.
    const request = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(1000)
    const feed = () => {
      while (!deaf.socket.destroyed && deaf.socket.write(request));
    }
    deaf.socket.on('drain', feed)
    feed()
    const startedAt = performance.now()
    await once(deaf.socket, 'close').catch(() => undefined)
    expect(performance.now() - startedAt).toBeLessThan(20_000)
  }, 30_000)

  test('by keeping many connections that it never uses again loses them soon', async () => {
    const server = await start({ maxConnections: 20 })
    const seconds: (string | undefined)[] = []
    for (let count = 0; count < 12; count++) {
      const own = await client(server)
      own.socket.write(REQUEST)
      await answered(own)
      seconds.push(/keep-alive: timeout=(\d+)/i.exec(own.received())?.[1])
    }
    expect(seconds).toEqual([...Array.from({ length: 10 }, () => '620'), '5', '5'])
  })

  test('by holding all connections there may be: those between two requests make room', async () => {
    const server = await start({ maxConnections: 20 })
    const idle = await Promise.all(Array.from({ length: 20 }, () => client(server)))
    for (const { socket } of idle) socket.write(REQUEST)
    await Promise.all(idle.map((own) => answered(own)))
    await expect
      .poll(
        async () => {
          const other = await client(server)
          other.socket.write(REQUEST.replace('Host: a', 'Host: a\r\nConnection: close'))
          return other.ended.catch(() => '')
        },
        { timeout: 5000 },
      )
      .toMatch(/200 OK/)
  })
})

describe('each limit holds without the others:', () => {
  const long = { headersMs: 60_000, requestMs: 60_000, silenceMs: 60_000, keepAliveMs: 60_000, checkIntervalMs: 50 }

  test('the time for headers', async () => {
    const slow = await client(await start({ ...long, headersMs: 300 }))
    slow.socket.write('POST / HTTP/1.1\r\nHost: a\r\n')
    expect(await slow.ended).toMatch(/^HTTP\/1.1 408/)
  })

  test('the time between two requests', async () => {
    const idle = await client(await start({ ...long, keepAliveMs: 300 }))
    const startedAt = performance.now()
    idle.socket.write(REQUEST)
    expect(await idle.ended).toMatch(/200 OK/)
    // Node's default is 5 s, and Node adds a second to whatever is set.
    expect(performance.now() - startedAt).toBeLessThan(4000)
  })

  test('the time without a byte', async () => {
    const waiting = await client(await start({ ...long, silenceMs: 300, answerMs: 3000 }))
    waiting.socket.write(REQUEST)
    expect(await waiting.ended).toBe('')
  })

  test('the bytes of headers', async () => {
    const server = await start({ ...long, maxHeaderBytes: 1000 })
    const verbose = await client(server)
    verbose.socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${'a'.repeat(2000)}\r\n\r\n`)
    expect(await verbose.ended).toMatch(/^HTTP\/1.1 431/)
  })

  test('the number of headers', async () => {
    const server = await start({ ...long, maxHeaders: 100 })
    const [most, oneMore] = [await client(server), await client(server)]
    const headers = (count: number) => Array.from({ length: count }, (_, at) => `X-${at}: a\r\n`).join('')
    most.socket.write(`POST / HTTP/1.1\r\nHost: a\r\n${headers(98)}Content-Length: 3\r\n\r\nabc`)
    oneMore.socket.write(`POST / HTTP/1.1\r\nHost: a\r\n${headers(99)}Content-Length: 3\r\n\r\nabc`)
    await answered(most)
    expect(await oneMore.ended).toMatch(/^HTTP\/1.1 431/)
  })

  test('connections: if all wait for answers, one more is refused', async () => {
    const server = await start({ ...long, maxConnections: 2, answerMs: 500 })
    const busy = [await client(server), await client(server)]
    for (const { socket } of busy) socket.write(REQUEST)
    await sleep(100)
    const more = await client(server)
    more.socket.write(REQUEST)
    expect(await more.ended.catch(() => '')).toBe('')
    await Promise.all(busy.map((own) => answered(own)))
  })
})

test('a request of HTTP/1.0, which needs no Host, is answered', async () => {
  const old = await client(await start())
  old.socket.write('POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc')
  expect(await old.ended).toMatch(/200 OK[^]*got 3/)
})

test('a client that ends its side after its last request gets all its answers', async () => {
  const server = await start({ answerMs: 50 })
  const socket = connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
  onTestFinished(() => void socket.destroy())
  socket.end(REQUEST.repeat(2))
  expect(String(Buffer.concat(await socket.toArray()))).toMatch(/200 OK[^]*got 3HTTP\/1.1 200 OK[^]*got 3$/)
})

test('a port that is taken is an error that says what to do', async () => {
  const { port } = await start()
  const again = listen(() => new Response(), { hostname: '127.0.0.1', port })
  await expect(again).rejects.toThrow(`Port ${port} is taken; set PORT to another`)
})

test('the limits are short enough that nothing is held for long, and longer than a proxy keeps its connections', () => {
  const { headersMs, requestMs, silenceMs, keepAliveMs, checkIntervalMs } = defaultHttpLimits
  expect(Math.max(headersMs, requestMs, silenceMs) + checkIntervalMs).toBeLessThan(30_000)
  expect(keepAliveMs).toBeGreaterThan(600_000)
})
