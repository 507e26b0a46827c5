import type { Report } from './examination.ts'
import { maskUrl } from './mask-url.ts'

// Finds out whether a URL leads to Ringback, and what is in the way if it does not.

/** Longer than any provider waits. */
export const TIMEOUT_MS = 10_000

export interface Probe {
  /** Whether Ringback answers, and has the source. */
  isRingback: boolean
  /** How far the clock there is ahead of the clock here. */
  skewMs: number
}

/** Sends a GET to the URL, as a control panel does that checks a URL, and reports what it finds. */
export async function probeUrl(url: string, tokens: readonly string[], report: Report): Promise<Probe> {
  const shown = maskUrl(url, tokens)
  reportScheme(url, shown, report)
  let response: Response
  let body: string
  try {
    response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS) })
    body = await response.text()
  } catch (error) {
    report('problem', `${shown} cannot be reached: ${networkAdvice(error as Error)}`)
    return { isRingback: false, skewMs: 0 }
  }
  const skewMs = skewOf(response)
  if (Math.abs(skewMs) > MAX_SKEW_MS) {
    const seconds = Math.round(Math.abs(skewMs) / 1000)
    report(
      'problem',
      `The clock there is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} this one: set both by NTP, or times that are signed will be refused`,
    )
  }
  const isRingback = response.status === 200 && isProbeAnswer(body)
  if (isRingback) report('ok', `${shown} answers, and it is Ringback`)
  else {
    const location = response.headers.get('location')
    const answer = { status: response.status, body, location: location && maskUrl(location, tokens) }
    report('problem', `${shown} answers ${response.status}: ${statusAdvice(answer)}`)
  }
  return { isRingback, skewMs }
}

/** Whether it is what Ringback answers to a GET without a callback. */
export const isProbeAnswer = (body: string) => body.includes('"ready"')

const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

function reportScheme(url: string, shown: string, report: Report): void {
  const { protocol, hostname } = new URL(url)
  if (LOOPBACK.test(hostname)) report('note', `${shown} is on this machine: no provider can call it`)
  else if (protocol !== 'https:') {
    report('problem', `${shown} is not HTTPS: providers ask for it, and secrets in URLs and headers need it`)
  }
}

const NETWORK_ADVICE = new Map([
  ['ENOTFOUND', 'its name has no address in DNS'],
  ['EAI_AGAIN', 'DNS does not answer'],
  ['ECONNREFUSED', 'nothing listens there: is the proxy running, and is the port open?'],
  ['ECONNRESET', 'the connection was broken off'],
  ['UND_ERR_SOCKET', 'the connection was broken off'],
  ['EHOSTUNREACH', 'there is no way to its address'],
  ['ETIMEDOUT', 'no answer: a firewall?'],
  ['UND_ERR_CONNECT_TIMEOUT', 'no answer: a firewall?'],
  ['TimeoutError', 'no answer within 10 s: a firewall, or a proxy that waits for Ringback?'],
  ['CERT_HAS_EXPIRED', 'its certificate has expired'],
  ['CERT_NOT_YET_VALID', 'its certificate is not valid yet: is the clock of this machine right?'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'its certificate is signed by itself; providers refuse that'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'its certificate is signed by an authority of your own; providers refuse that'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'its certificate comes without the intermediate one: serve the full chain'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'its certificate is for another name'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'it speaks no TLS on this port'],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'it speaks no TLS on this port'],
])

/** What a failed `fetch` means. */
export function networkAdvice(error: Error): string {
  const cause = error.cause as { code?: string; message?: string } | undefined
  const code = cause?.code ?? error.name
  return `${NETWORK_ADVICE.get(code) ?? cause?.message ?? error.message} (${code})`
}

/** What an answer means that is not one of Ringback's good ones. */
export function statusAdvice({
  status,
  body,
  location,
}: {
  status: number
  body: string
  location?: string | null
}): string {
  // By these three answers Ringback itself can be recognised.
  if (status === 404 && body.includes('"unknown source"')) {
    return 'Ringback is there, and does not know this source or this token: does it run with this configuration?'
  }
  if (status === 404 && body.includes('"not found"')) {
    return 'Ringback is there, but was asked for another path: something before it rewrites paths'
  }
  if (status === 503 && body.includes('"try again later"')) {
    return 'Ringback is there, but cannot keep anything at the moment: are its queue and the disk of that all right?'
  }
  if (status >= 300 && status < 400) {
    return `it redirects to ${location ?? 'nowhere'}, and no provider follows that with its POST: give the provider that URL, and begin PUBLIC_BASE_URL like it`
  }
  if (status === 404) return 'this is not Ringback: a proxy does not pass the path on, or this is another host'
  if (status === 401 || status === 403) return 'something before Ringback asks for a login, or blocks'
  if (status === 405) return 'something before Ringback does not let the method through'
  if (status === 413) return 'it is too large: Ringback takes 1 MiB, a proxy before it perhaps less'
  if (status === 429) return 'something before Ringback limits the rate'
  if (status === 502 || status === 503 || status === 504) return 'the proxy does not reach Ringback'
  return 'this is not Ringback'
}

const MAX_SKEW_MS = 30_000

function skewOf(response: Response): number {
  const date = Date.parse(response.headers.get('date') ?? '')
  return Number.isNaN(date) ? 0 : date - Date.now()
}
