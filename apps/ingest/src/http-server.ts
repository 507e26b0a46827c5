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
  /** How long a request's headers may take, from the first byte of the connection or of the request. */
  headersMs: number
  /** How long a request may take, from its first byte to the end of its body. */
  requestMs: number
  /** How long no byte may move in either direction during a request; this also ends a client that reads no answers. */
  silenceMs: number
  /** How long a connection may be idle between two requests; 5 s while more than half of the connections are open. */
  keepAliveMs: number
  /** How often to look for connections that have taken too long. */
  checkIntervalMs: number
  maxHeaderBytes: number
  /** Limit of headers in a request. Many tiny ones take several times their bytes. */
  maxHeaders: number
  /** Limit of open connections. At the limit a new one is refused, and idle ones are closed to make room. */
  maxConnections: number
}

/** The limits that docs/operations.md lists. */
export const defaultHttpLimits: HttpLimits = {
  headersMs: 10_000,
  requestMs: 15_000,
  silenceMs: 20_000,
  // Longer than a proxy keeps an idle connection, so that a proxy never sends a request on one that is just being closed: nginx
  // 60 s, Traefik 90 s, Caddy 120 s, and 600 s Google's load balancers, where nobody can change it.
  keepAliveMs: 620_000,
  checkIntervalMs: 1000,
  maxHeaderBytes: 16 * 1024,
  // Providers and the proxies before them send fewer than 60.
  maxHeaders: 100,
  // Each takes some 16 KB with the last response on it, and up to 50 KB with a request in hand, its body not counted.
  maxConnections: 10_000,
}

export interface HttpServer {
  port: number
  /**
   * Ends the server. For `delayMs` it still takes everything, and each answer asks its client to leave the connection. Then
   * it takes no new connections, and closes each one when its answer has left, or after 2 s.
   */
  close: (delayMs: number) => Promise<void>
}

/** Proxies open few connections: where there are many, most are of clients that leave them open and use them once. */
const CROWDED_KEEP_ALIVE_MS = 5000
/** Requests in hand are answered within a second; only one whose body never ends takes longer. */
const CUT_OFF_MS = 2000
/** Half a second on a machine that is not busy. It is no time limit, because what came while the process was held up is accepted only after that. */
const MAX_LOOKS = 250
const QUIET_MS = 1
const SHORT_TURN_MS = 0.3

/**
 * Listens; port 0 is any free one. Rejects, saying what to do, if the port is taken or the address is not this machine's.
 */
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
    const server = createServer(serverOptions, withOwnOrigin(getRequestListener(fetch)))
    const announceClose = createAnnounceClose(server)
    server.timeout = limits.silenceMs
    server.maxHeadersCount = limits.maxHeaders
    server.maxConnections = limits.maxConnections
    server.on('connection', () =>
      server.getConnections((_error, open) => {
        server.keepAliveTimeout = open > limits.maxConnections / 2 ? CROWDED_KEEP_ALIVE_MS : limits.keepAliveMs
      }),
    )
    server.on('drop', () => server.closeIdleConnections())
    // A client may end its side after its last request. Node would end the other side too, and the answers would be lost.
    Object.assign(server, { httpAllowHalfOpen: true })
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(explainListenError(error, port, { host: 'HOST', port: 'PORT' }))
    })
    server.listen(port, hostname, () => {
      const { port: ownPort } = server.address() as AddressInfo
      resolve({ port: ownPort, close: (delayMs) => closeServer(server, announceClose, delayMs) })
    })
  })
}

async function closeServer(server: Server, announceClose: () => void, delayMs: number): Promise<void> {
  announceClose()
  await sleep(delayMs)
  const closed = once(server, 'close')
  const release = holdRequests(server)
  await untilNobodyComes(server)
  // This closes only the listener, and at once. http's own close first goes through all connections, to end idle ones.
  NetServer.prototype.close.call(server)
  server.close()
  release()
  const timer = setTimeout(() => server.closeAllConnections(), CUT_OFF_MS)
  await closed
  clearTimeout(timer)
}

/** Holds back requests until the returned function is called; the server then gets them in their order. */
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
 * Waits for a moment without a new connection, directly followed by a turn of the event loop that was too short for one to
 * come unseen. The system completes connections before they are accepted here, one a turn, and closing the listener resets
 * those that are not accepted yet, with the requests in them. Requests are held back meanwhile, so turns are short, and
 * clients that wait for an answer open no more connections. This also leaves time to read what has arrived on idle
 * connections, which are closed together with the listener.
 */
async function untilNobodyComes(server: Server): Promise<void> {
  let accepted = 0
  const count = () => (accepted += 1)
  server.on('connection', count)
  for (let looks = 0, isQuiet = false; !isQuiet && looks < MAX_LOOKS; looks++) {
    const before = accepted
    await sleep(QUIET_MS)
    const turnedAt = performance.now()
    await nextTurn()
    isQuiet = accepted === before && performance.now() - turnedAt < SHORT_TURN_MS
  }
  server.off('connection', count)
}
