import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

/** A proxy in front of a server. It can be cut, or frozen, so that connections stay open but nothing passes. */
export interface TcpProxy extends AsyncDisposable {
  /** The server's URL through the proxy. */
  url: string
  /** Ends every connection and refuses new ones. */
  cut: () => Promise<void>
  /** Resets every connection, as a killed server may; new ones pass. */
  reset: () => void
  freeze: () => void
  /** From now on each connection takes at most so many bytes a second to the server. */
  slowDown: (bytesPerSecond: number) => void
  /** Freezes only connections, also later ones, over which something comes that matches `tag`. That is swallowed. */
  freezeTagged: () => void
  /** How many open connections have carried something that matches `tag`. */
  tagged: () => number
  /** Freezes the connections of this moment for ever; new ones pass. */
  abandon: () => void
  /** Directs new connections to another server. */
  lead: (serverUrl: string) => void
  /** Ends a cut or a freeze; what `abandon` and `lead` did stays. */
  restore: () => Promise<void>
}

/** Starts a proxy to a server, on a free port. It ends with its scope. */
export async function proxyTo(serverUrl: string, { tag = /(?!)/ }: { tag?: RegExp } = {}): Promise<TcpProxy> {
  let target = new URL(serverUrl)
  const sockets = new Set<Socket>()
  const tagged = new Set<Socket>()
  const abandoned = new Set<Socket>()
  let isFrozen = false
  let areTaggedFrozen = false
  let bytesPerSecond = Infinity
  const server = createServer((downstream) => {
    const upstream = connect(Number(target.port), target.hostname)
    downstream.on('data', (chunk) => {
      slow(downstream, chunk.length)
      if (!tag.test(String(chunk))) return
      tagged.add(downstream).add(upstream)
    })
    for (const [from, to] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(from)
      from.on('data', (chunk) => void ((areTaggedFrozen && tagged.has(from)) || to.write(chunk)))
      from.on('error', () => {}) // 'close' follows
      from.on('close', () => {
        sockets.delete(from)
        tagged.delete(from)
        to.destroy()
      })
      if (isFrozen) from.pause()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const url = new URL(serverUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)

  /** Reads nothing from `socket` for as long as `length` bytes take. */
  function slow(socket: Socket, length: number): void {
    if (bytesPerSecond === Infinity) return
    socket.pause()
    setTimeout(() => isFrozen || abandoned.has(socket) || socket.resume(), (length / bytesPerSecond) * 1000)
  }

  async function cut(): Promise<void> {
    if (!server.listening) return
    server.close()
    for (const socket of [...sockets, ...abandoned]) socket.destroy()
    await once(server, 'close')
  }
  return {
    url: url.href,
    cut,
    reset() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    freeze() {
      isFrozen = true
      for (const socket of sockets) socket.pause()
    },
    slowDown(limit) {
      bytesPerSecond = limit
    },
    freezeTagged() {
      areTaggedFrozen = true
    },
    tagged: () => tagged.size / 2,
    abandon() {
      for (const socket of sockets) {
        socket.pause()
        abandoned.add(socket)
        sockets.delete(socket)
      }
    },
    lead(otherUrl) {
      target = new URL(otherUrl)
    },
    async restore() {
      isFrozen = false
      areTaggedFrozen = false
      for (const socket of sockets) socket.resume()
      if (server.listening) return
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    [Symbol.asyncDispose]: cut,
  }
}
