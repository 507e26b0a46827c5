import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** The newest response of a connection: a property, for it is set with every request and must cost nothing. */
const NEWEST = Symbol('newest response')

interface Connection extends Socket {
  [NEWEST]?: ServerResponse
}

export interface AnnounceClose {
  /** The server's listener, with each response noted on its way. */
  noting: (listener: RequestListener) => (request: IncomingMessage, response: ServerResponse) => void
  /** Of a server that has this listener: from here on every answer has `Connection: close`, those to requests in hand too. */
  announce: () => void
  /** To be called with the server before its first connection. */
  watch: (server: Server) => void
}

/**
 * Makes a server able to tell its clients to leave: a client that has read `Connection: close` sends nothing more on the
 * connection, so closing it resets no request. Node closes the connection by itself behind such an answer.
 */
export function createAnnounceClose(): AnnounceClose {
  const connections = new Set<Connection>()
  let isLeaving = false

  return {
    noting: (listener) => (request, response) => {
      const connection = request.socket as Connection
      if (isLeaving) {
        // Of pipelined requests only the last may say so, for behind it nothing is sent any more.
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
