import type { OutgoingRequest, Sample, Source } from '@ringback/core/providers/provider'
import { urlBelow } from '@ringback/core/providers/request-origin'
import { fillSample } from '@ringback/core/providers/sample'
import type { FilledSample } from '@ringback/core/providers/sample'

// Puts filled samples into their envelope and signs them.

export interface SignOptions {
  source: Source
  sample: Sample
  /** Where the requests go. */
  url: string
  /** The beginning of the source's URLs for the provider, which signs them. Undefined: the URLs to which requests go. */
  publicBaseUrl: string | undefined
  secret: string | undefined
  now: () => Date
}

const STALE_MS = 3_600_000
/** A byte that cannot occur in JSON, so an envelope holds it only in the place of its callbacks. */
const MARK = Buffer.from([0])

/** The request with these samples in it, each forged or not. */
export function signRequest(
  filled: FilledSample[],
  isForged: boolean[],
  isStale: boolean,
  { source, url, publicBaseUrl, secret, now }: SignOptions,
): OutgoingRequest {
  const at = signingTime(isStale, now)
  const sign = (samples: FilledSample[], forged: boolean) =>
    source.sign(unsignedRequest(samples, publicUrlOf(url, publicBaseUrl), source), { at, secret, forged })
  const { envelope } = source
  if (envelope === undefined || new Set(isForged).size === 1) return sign(filled, isForged[0]!)
  // Each callback has a proof of its own here, so each is signed alone and taken out of its envelope again.
  const frame = envelope([MARK])
  const start = frame.indexOf(MARK)
  const end = start + MARK.length - frame.length
  const callbacks = filled.map((item, index) => sign([item], isForged[index]!).body.subarray(start, end))
  return { ...sign(filled, false), body: envelope(callbacks) }
}

/** A genuine request with one callback. */
export function signSample(options: SignOptions, { isStale } = { isStale: false }): OutgoingRequest {
  const filled = fillSample(options.sample, signingTime(isStale, options.now))
  return signRequest([filled], [false], isStale, options)
}

/** The request to `url` with these samples in it. */
export function unsignedRequest(
  filled: FilledSample[],
  url: string,
  { envelope }: Pick<Source, 'envelope'>,
): OutgoingRequest {
  const { method, query, headers, body } = filled[0]!
  const search = new URLSearchParams(query).toString()
  return {
    method,
    url: search === '' ? url : `${url}${url.includes('?') ? '&' : '?'}${search}`,
    headers,
    body: envelope === undefined || body.length === 0 ? body : envelope(filled.map((item) => item.body)),
  }
}

/** When a request is signed that is sent now. */
export function signingTime(isStale: boolean, now: () => Date): Date {
  return new Date(now().getTime() - (isStale ? STALE_MS : 0))
}

/** The URL as the provider knows it. */
export function publicUrlOf(url: string, publicBaseUrl: string | undefined): string {
  const base = publicBaseUrl?.replace(/\/+$/, '')
  if (publicBaseUrl === undefined || url.startsWith(`${base}/`)) return url
  const { pathname, search } = new URL(url)
  return urlBelow(publicBaseUrl, url === base ? '/' : pathname + search)
}
