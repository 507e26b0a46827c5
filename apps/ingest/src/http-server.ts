import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { Server as NetServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import { explainListenError } from '@ringback/core/service'
import { createAnnounceClose } from './announce-close.ts'
import { withOwnOrigin } from './request-target.ts'

/** What one client may take of the server; times in milliseconds. */
export interface HttpLimits {
  /** From the first byte of a connection, or of a request on it, to the end of the request's headers. */
  headersMs: number
  /** From its first byte to the end of a request's body. */
  requestMs: number
  /** Without a byte in either direction while a request is under way: a client that does not read its answers, too. */
  silenceMs: number
  /** Between two requests. */
  keepAliveMs: number
  /** How often connections that have taken too long are looked for. */
  checkIntervalMs: number
  maxHeaderBytes: number
  /** With so many, those between two requests are closed to make room, and one more is refused. */
  maxConnections: number
}

/** As docs/operations.md has them. */
export const defaultHttpLimits: HttpLimits = {
  headersMs: 10_000,
  requestMs: 15_000,
  silenceMs: 20_000,
  // Longer than a proxy keeps its idle connections, so that it is never the proxy that finds one closed.
  keepAliveMs: 75_000,
  checkIntervalMs: 1000,
  maxHeaderBytes: 16 * 1024,
  // Of some 16 KB each, with the last response on it.
  maxConnections: 10_000,
}

export interface HttpServer {
  port: number
  /**
   * Ends the server: for `delayMs` it takes everything and asks each client, with its answer, to leave its connection;
   * then it takes no new connections, and closes each one when its answer has left, or after 2 s.
   */
  close: (delayMs: number) => Promise<void>
}

/** Requests in hand are answered within a second; what takes longer is a body that does not come to its end. */
const CUT_OFF_MS = 2000
const LAST_ACCEPT_MS = 500
const QUIET_MS = 1
const SHORT_TURN_MS = 0.3

/** Listens; 0 is any free port. Rejects, with what to do, if the port is taken or the address is none of this machine. */
export function listen(
  fetch: Parameters<typeof getRequestListener>[0],
  { hostname, port }: { hostname: string; port: number },
  limits: HttpLimits = defaultHttpLimits,
): Promise<HttpServer> {
  return new Promise((resolve, reject) => {
    const serverOptions = {
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      maxHeaderSize: limits.maxHeaderBytes,
    }
    const { noting, watch, announce } = createAnnounceClose()
    const server = createServer(serverOptions, noting(withOwnOrigin(getRequestListener(fetch))))
    watch(server)
    server.timeout = limits.silenceMs
    server.maxConnections = limits.maxConnections
    server.on('drop', () => server.closeIdleConnections())
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(explainListenError(error, port, { host: 'HOST', port: 'PORT' }))
    })
    server.listen(port, hostname, () => {
      const { port: ownPort } = server.address() as AddressInfo
      resolve({ port: ownPort, close: (delayMs) => closeServer(server, announce, delayMs) })
    })
  })
}

async function closeServer(server: Server, announce: () => void, delayMs: number): Promise<void> {
  announce()
  await sleep(delayMs)
  const closed = once(server, 'close')
  const release = holdRequests(server)
  await untilNobodyComes(server)
  // The listener alone and at once, for http's own close looks through all connections first, to end those that are idle.
  NetServer.prototype.close.call(server)
  server.close()
  release()
  const timer = setTimeout(() => server.closeAllConnections(), CUT_OFF_MS)
  await closed
  clearTimeout(timer)
}

/** Keeps requests that come until the function that this returns is called; the server then gets them in their order. */
function holdRequests(server: Server): () => void {
  const listeners = server.listeners('request') as ((...request: unknown[]) => void)[]
  const held: unknown[][] = []
  server.removeAllListeners('request').on('request', (...request) => held.push(request))
  return () => {
    server.removeAllListeners('request')
    for (const listener of listeners) server.on('request', listener)
    for (const [request, response] of held) server.emit('request', request, response)
  }
}

/**
 * Waits for a moment in which no new connection comes, and a turn of the event loop, right behind it, that was too short
 * for one to come unseen. The system completes connections before they are accepted here, one a turn, and closing the
 * listener resets those that are left, with the requests in them. Requests are held meanwhile: turns are short then, and
 * clients that wait for an answer open no more connections. What had come on idle connections, which are closed together
 * with the listener, is read in that time too.
 */
async function untilNobodyComes(server: Server): Promise<void> {
  let accepted = 0
  const count = () => (accepted += 1)
  server.on('connection', count)
  const deadline = performance.now() + LAST_ACCEPT_MS
  for (let isQuiet = false; !isQuiet && performance.now() < deadline;) {
    const before = accepted
    await sleep(QUIET_MS)
    const turnedAt = performance.now()
    await nextTurn()
    isQuiet = accepted === before && performance.now() - turnedAt < SHORT_TURN_MS
  }
  server.off('connection', count)
}
