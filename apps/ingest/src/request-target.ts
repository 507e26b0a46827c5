import type { RequestListener } from 'node:http'

const ORIGIN = /^https?:\/\/[^/?#]*/i

/** A request's target as it is written; of one in absolute form (RFC 9112, 3.2.2), without scheme and host. */
export function pathAndQuery(target: string): string {
  const written = target.replace(ORIGIN, '')
  return written.startsWith('/') ? written : `/${written}`
}

/** A Host that is in a URL as it is: most are, and are looked at no further. */
const PLAIN_HOST = /^[a-z0-9._-]+(?::(?:[1-5]\d{3,4}|[6-9]\d{3}))?$/

/**
 * A listener that gets every target in a form that Hono can make a URL of. It takes the host for it from Host or from the
 * target, and answers 400 by itself where that makes no URL, as of an empty port. No route needs that host, and what needs
 * the header Host finds it as it came.
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
