import { createServer } from 'node:http'
import { listen } from './listen.ts'

/** One request on its way. */
export interface ProxiedRequest {
  method: string
  /** Path and query. */
  target: string
  headers: Record<string, string>
  body: Buffer
}

/** What a proxy does to a request: passes it on, perhaps changed, or answers it itself. */
export type ProxyBehaviour = (
  request: ProxiedRequest,
) => ProxiedRequest | { status: number; headers?: Record<string, string> }

export interface HttpProxy extends AsyncDisposable {
  /** The beginning of its URLs. */
  url: string
  /** Sets the server that it passes requests on to. Before that, there is none. */
  passTo: (server: { port: number }) => void
}

/** Starts a reverse proxy, such as people have before Ringback, with the faults that such proxies have. */
export async function httpProxy(behaviour: ProxyBehaviour = (request) => request): Promise<HttpProxy> {
  let port: number | undefined
  const server = createServer((incoming, outgoing) => {
    void (async () => {
      const body = Buffer.concat(await incoming.toArray())
      const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]))
      const next = behaviour({ method: incoming.method!, target: incoming.url!, headers, body })
      if ('status' in next) return outgoing.writeHead(next.status, next.headers).end()
      if (port === undefined) return outgoing.writeHead(502).end()
      const response = await fetch(`http://127.0.0.1:${port}${next.target}`, {
        method: next.method,
        headers: endToEnd(next.headers),
        ...(next.method !== 'GET' && { body: new Uint8Array(next.body) }),
      })
      return outgoing.writeHead(response.status).end(await response.bytes())
    })()
  })
  const own = await listen(server)
  return {
    url: `http://127.0.0.1:${own.port}`,
    passTo: (target) => void ({ port } = target),
    [Symbol.asyncDispose]: own[Symbol.asyncDispose],
  }
}

const OF_THE_CONNECTION = new Set(['connection', 'content-length', 'host', 'keep-alive', 'transfer-encoding'])

function endToEnd(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_THE_CONNECTION.has(name)))
}
