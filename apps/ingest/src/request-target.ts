import type { RequestListener } from 'node:http'

const ORIGIN = /^https?:\/\/[^/?#]*/i

/** A request's target as written, but without scheme and host where it is in absolute form (RFC 9112, 3.2.2). */
export function pathAndQuery(target: string): string {
  const written = target.replace(ORIGIN, '')
  return written.startsWith('/') ? written : `/${written}`
}

/** A Host that can stand in a URL as it is. Most can, and need no further check. */
const PLAIN_HOST = /^[a-z0-9._-]+(?::(?:[1-5]\d{3,4}|[6-9]\d{3}))?$/

/**
 * Wraps a listener so that it gets every target in a form from which Hono can make a URL. Hono would take the host from Host
 * or from the target, and answer 400 where that gives no URL, for example with an empty port. No route needs that host, and
 * the header Host stays as it came.
 */
export function withOwnOrigin(listener: RequestListener): RequestListener {
  return (request, response) => {
    const { url = '', headers } = request
    if (!url.startsWith('/') || !PLAIN_HOST.test(headers.host ?? '')) {
      request.url = `http://localhost${pathAndQuery(url)}`
    }
    listener(request, response)
  }
}
