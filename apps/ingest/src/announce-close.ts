import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Key of a connection's newest response. It is a property because it is set with every request and must cost nothing. */
const NEWEST = Symbol('newest response')

interface Connection extends Socket {
  [NEWEST]?: ServerResponse
}

export interface AnnounceClose {
  /** Wraps the server's listener so that each response is noted. */
  noting: (listener: RequestListener) => (request: IncomingMessage, response: ServerResponse) => void
  /** From now on every answer of the server has `Connection: close`, also those to requests in hand. */
  announce: () => void
  /** To be called with the server before its first connection. */
  watch: (server: Server) => void
}

/**
 * Makes a server able to tell its clients to leave: a client that has read `Connection: close` sends nothing more on the
 * connection, so closing it resets no request. Node closes the connection by itself after such an answer.
 */
export function createAnnounceClose(): AnnounceClose {
  const connections = new Set<Connection>()
  let isLeaving = false

  return {
    noting: (listener) => (request, response) => {
      const connection = request.socket as Connection
      if (isLeaving) {
        // Of the answers to pipelined requests only the last may say so: Node sends nothing after it.
        const before = connection[NEWEST]
        if (before?.headersSent === false) before.removeHeader('Connection')
        response.setHeader('Connection', 'close')
      }
      connection[NEWEST] = response
      listener(request, response)
    },
    announce() {
      isLeaving = true
      for (const { [NEWEST]: response } of connections) {
        if (response?.headersSent === false) response.setHeader('Connection', 'close')
      }
    },
    watch(server) {
      server.on('connection', (connection: Connection) => {
        connections.add(connection)
        connection.once('close', () => connections.delete(connection))
      })
    },
  }
}
