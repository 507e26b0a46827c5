import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'

/** Makes an HTTP server listen on a port of 127.0.0.1. It and its connections end with the scope at the latest. */
export async function listen(
  server: Server & { closeAllConnections: () => void },
): Promise<{ port: number } & AsyncDisposable> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
