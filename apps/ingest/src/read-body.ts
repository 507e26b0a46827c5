import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'

/** A request's body, or why there is none. */
export type Body =
  | { kind: 'read'; bytes: Buffer }
  | { kind: 'too_large' }
  | { kind: 'client_gone' }
  /** Too much is being read already. */
  | { kind: 'overloaded' }

/** What the routes know about their surroundings: the Node request, where there is one. */
export interface IngestEnv {
  Bindings: Partial<HttpBindings>
}

/** Hardly any callback is larger. Up to this size bodies are still read when large ones have taken all their room. */
export const SMALL_BYTES = 64 * 1024

/**
 * Makes the function that reads a request's body as the bytes that came, at most `maxBytes` of them. While unfinished bodies
 * hold more than `maxTotalBytes` together, a body that grows beyond 64 KiB is given up; while they hold more than twice
 * that, any body that grows is. So senders who never finish cannot fill the memory. Never throws. Nothing else may read the
 * body.
 *
 * Under the Node server the chunks are taken from the request behind Hono: `c.req.text()` would lose a byte order mark
 * and invalid UTF-8, and `arrayBuffer()` copies.
 */
export function createBodyReader({ maxBytes, maxTotalBytes }: { maxBytes: number; maxTotalBytes: number }) {
  let totalBytes = 0

  return async (c: Context<IngestEnv>): Promise<Body> => {
    const incoming = c.env?.incoming
    // From Node's own headers: to look up one, Hono would first convert them all.
    const announced = incoming === undefined ? c.req.header('content-length') : incoming.headers['content-length']
    if (Number(announced ?? 0) > maxBytes) return { kind: 'too_large' }
    let length = 0
    const refuses = (chunkLength: number): Body | undefined => {
      length += chunkLength
      totalBytes += chunkLength
      if (length > maxBytes) return { kind: 'too_large' }
      const mostBytes = length > SMALL_BYTES ? maxTotalBytes : 2 * maxTotalBytes
      return totalBytes > mostBytes ? { kind: 'overloaded' } : undefined
    }
    const body = await (incoming ? fromNode(incoming, refuses) : fromStream(c.req.raw.body, refuses))
    totalBytes -= length
    return body
  }
}

/** Counts a chunk. Returns the result if the rest is not to be read. */
type Refuses = (chunkLength: number) => Body | undefined

/**
 * A body usually is one chunk, which is returned as it is. More are joined as they come: a Buffer for each of a million chunks of
 * one byte would take 400 MB. The room is doubled when it is full, so that no byte is copied often.
 */
function fromNode(incoming: IncomingMessage, refuses: Refuses): Promise<Body> {
  return new Promise((resolve) => {
    let room: Buffer | undefined
    let length = 0
    const finish = (body: Body) => {
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      resolve(body)
    }
    const onData = (chunk: Buffer) => {
      const refusal = refuses(chunk.length)
      if (refusal !== undefined) {
        incoming.pause()
        finish(refusal)
      } else if (room === undefined) {
        room = chunk
        length = chunk.length
      } else {
        if (length + chunk.length > room.length) room = largerCopy(room, length, chunk.length)
        length += chunk.copy(room, length)
      }
    }
    const onEnd = () => {
      const bytes = room?.length === length ? room : room?.subarray(0, length)
      finish({ kind: 'read', bytes: bytes ?? Buffer.alloc(0) })
    }
    const onGone = () => finish({ kind: 'client_gone' })
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

/** A copy of the first `length` bytes of `from`, with room for as many again, and for `moreBytes` at least. */
function largerCopy(from: Buffer, length: number, moreBytes: number): Buffer {
  const copy = Buffer.allocUnsafe(length + Math.max(length, moreBytes))
  from.copy(copy, 0, 0, length)
  return copy
}

async function fromStream(stream: ReadableStream<Uint8Array> | null, refuses: Refuses): Promise<Body> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream ?? []) {
    const refusal = refuses(chunk.length)
    if (refusal !== undefined) return refusal
    chunks.push(chunk)
  }
  return { kind: 'read', bytes: Buffer.concat(chunks) }
}
