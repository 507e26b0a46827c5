import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Makes a server able to tell its clients to leave. From the call of the function that this returns, every answer has
 * `Connection: close`, those to requests in hand too: a client that has read it sends nothing more on the connection, so
 * closing it resets no request. Node closes the connection by itself behind such an answer.
 */
export function announceClose(server: Server): () => void {
  /** Of each connection with a request in hand the newest response. */
  const newest = new Map<Socket, ServerResponse>()
  let isLeaving = false

  server.prependListener('request', ({ socket }, response) => {
    const before = newest.get(socket)
    newest.set(socket, response)
    response.once('close', () => {
      if (newest.get(socket) === response) newest.delete(socket)
    })
    if (!isLeaving) return
    // Of pipelined requests only the last may say so, for behind it nothing is sent any more.
    if (before?.headersSent === false) before.removeHeader('Connection')
    response.setHeader('Connection', 'close')
  })

  return () => {
    isLeaving = true
    for (const response of newest.values()) if (!response.headersSent) response.setHeader('Connection', 'close')
  }
}
