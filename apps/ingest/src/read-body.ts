import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'

/** A request's body, or why there is none. */
export type Body = { kind: 'read'; bytes: Buffer } | { kind: 'too_large' } | { kind: 'client_gone' }

/** What the routes know about their surroundings: the Node request, where there is one. */
export interface IngestEnv {
  Bindings: Partial<HttpBindings>
}

/**
 * The body as the bytes that came, at most `maxBytes` of them. Never throws. Nothing else may read the body.
 *
 * Under the Node server the chunks are taken from the request behind Hono: `c.req.text()` would lose a byte order mark
 * and invalid UTF-8, and `arrayBuffer()` copies.
 */
export function readBody(c: Context<IngestEnv>, maxBytes: number): Promise<Body> {
  if (Number(c.req.header('content-length') ?? 0) > maxBytes) return Promise.resolve({ kind: 'too_large' })
  return c.env?.incoming ? fromNode(c.env.incoming, maxBytes) : fromStream(c.req.raw.body, maxBytes)
}

function fromNode(incoming: IncomingMessage, maxBytes: number): Promise<Body> {
  return new Promise((resolve) => {
    let first: Buffer | undefined
    let more: Buffer[] | undefined
    let length = 0
    const finish = (body: Body) => {
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      resolve(body)
    }
    const onData = (chunk: Buffer) => {
      length += chunk.length
      if (length > maxBytes) {
        incoming.pause()
        finish({ kind: 'too_large' })
      } else if (first === undefined) first = chunk
      else (more ??= [first]).push(chunk)
    }
    const onEnd = () =>
      finish({ kind: 'read', bytes: more === undefined ? (first ?? Buffer.alloc(0)) : Buffer.concat(more) })
    const onGone = () => finish({ kind: 'client_gone' })
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

async function fromStream(stream: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<Body> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of stream ?? []) {
    length += chunk.length
    if (length > maxBytes) return { kind: 'too_large' }
    chunks.push(chunk)
  }
  return { kind: 'read', bytes: Buffer.concat(chunks) }
}
