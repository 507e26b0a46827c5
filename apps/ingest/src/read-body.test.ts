import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import type { Context } from 'hono'
import { expect, onTestFinished, test } from 'vitest'
import { createBodyReader } from './read-body.ts'
import type { Body, IngestEnv } from './read-body.ts'

const LIMITS = { maxBytes: 1000, maxTotalBytes: 10_000 }

/** Reads the body of a request whose pieces reach the server one by one. The piece `'reset'` cuts the connection. */
async function readRequest(...pieces: string[]): Promise<Body> {
  const readBody = createBodyReader(LIMITS)
  const { promise, resolve } = Promise.withResolvers<Body>()
  const app = new Hono<IngestEnv>().post('/', async (c) => {
    resolve(await readBody(c))
    return c.body(null)
  })
  const server = createServer(getRequestListener(app.fetch))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  const [first, ...others] = pieces
  const begun = once(server, 'request')
  socket.write(first!)
  for (const piece of others) {
    await begun
    if (piece === 'reset') socket.resetAndDestroy()
    else socket.write(piece)
  }
  return promise
}

const head = (header: string) => `POST / HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n`
const sized = (length: number) => head(`Content-Length: ${length}`)
const CHUNKED = head('Transfer-Encoding: chunked')
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
const read = (text: string) => ({ kind: 'read', bytes: Buffer.from(text) })

test.each<[string, string[], object]>([
  ['with the headers', [`${sized(3)}abc`], read('abc')],
  ['after the headers', [sized(3), 'abc'], read('abc')],
  ['in pieces', [`${sized(6)}ab`, 'cd', 'ef'], read('abcdef')],
  ['in chunks, with the headers', [`${CHUNKED}${chunk('abc')}${chunk('def')}0\r\n\r\n`], read('abcdef')],
  ['in chunks, one after the other', [CHUNKED, chunk('abc'), `${chunk('def')}0\r\n\r\n`], read('abcdef')],
  ['that is empty', [sized(0)], read('')],
  ['that is not there', [head('X: 1')], read('')],
  ['as large as it may be', [`${sized(1000)}${'x'.repeat(1000)}`], read('x'.repeat(1000))],
])('a body %s is read as it came', async (_how, pieces, body) => {
  expect(await readRequest(...pieces)).toEqual(body)
})

test.each<[string, string[], Body['kind']]>([
  ['that is announced as too large', [sized(1001)], 'too_large'],
  ['that turns out too large', [`${CHUNKED}${chunk('x'.repeat(1001))}0\r\n\r\n`], 'too_large'],
  ['that becomes too large', [CHUNKED, chunk('x'.repeat(600)), chunk('x'.repeat(600))], 'too_large'],
  ['that breaks off', [`${sized(6)}abc`, 'reset'], 'client_gone'],
  ['that is no valid chunk', [`${CHUNKED}no chunk`], 'client_gone'],
  ['that stops being chunks', [CHUNKED, chunk('abc'), 'no chunk'], 'client_gone'],
])('a body %s is reported as such, and nobody waits for the rest', async (_how, pieces, kind) => {
  expect((await readRequest(...pieces)).kind).toBe(kind)
})

test('a body takes about as much memory as it has bytes, however small its chunks are', async () => {
  const count = 500_000
  const incoming = Object.assign(new EventEmitter(), { headers: {} })
  const readBody = createBodyReader({ maxBytes: count, maxTotalBytes: count })
  const before = usedMemory()
  const body = readBody({ env: { incoming } } as unknown as Context<IngestEnv>)
  for (let index = 0; index < count; index++) incoming.emit('data', Buffer.alloc(1, index))
  expect(usedMemory() - before).toBeLessThan(5 * count)
  incoming.emit('end')
  expect(await body).toEqual({ kind: 'read', bytes: Buffer.from(Uint8Array.from({ length: count }, (_, at) => at)) })
})

/** The memory in use after a garbage collection, in bytes. */
function usedMemory(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
