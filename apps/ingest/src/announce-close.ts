import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Key of a connection's newest response. It is a property because it is set with every request and must cost nothing. */
const NEWEST = Symbol('newest response')

interface Connection extends Socket {
  [NEWEST]?: ServerResponse
}

/**
 * Returns a function after whose call every answer of the server has `Connection: close`, also those to requests in hand. A
 * client that has read that sends nothing more on the connection, so closing it resets no request. Node closes the connection
 * by itself after such an answer. To be called before the server's first connection.
 */
export function createAnnounceClose(server: Server): () => void {
  const connections = new Set<Connection>()
  let isLeaving = false

  server.on('connection', (connection: Connection) => {
    connections.add(connection)
    connection.once('close', () => connections.delete(connection))
  })
  // First, so that the header is set before the answer is written.
  server.prependListener('request', ({ socket }: IncomingMessage, response) => {
    const connection = socket as Connection
    if (isLeaving) {
      // Of the answers to pipelined requests only the last may say so: Node sends nothing after it.
      const before = connection[NEWEST]
      if (before?.headersSent === false) before.removeHeader('Connection')
      response.setHeader('Connection', 'close')
    }
    connection[NEWEST] = response
  })

  return () => {
    isLeaving = true
    for (const { [NEWEST]: response } of connections) {
      if (response?.headersSent === false) response.setHeader('Connection', 'close')
    }
  }
}
