import type { AddressList } from './access.ts'
import type { Source } from './provider.ts'

// Who called, and by which URL. Behind proxies, ingest itself sees neither.

/** A request as it reached this process. */
export interface InnerRequest {
  /** Path and query. */
  target: string
  header: (name: string) => string | undefined
  remoteAddress: string | undefined
}

export interface OriginSettings {
  /** Where the URLs that providers were given begin, `https://hooks.example.com`; a path may follow. */
  publicBaseUrl: string | undefined
  /** Proxies whose `Forwarded`-style headers are believed. */
  trustedProxies: AddressList
}

/**
 * The URL that the provider called. It begins as configured; else as the headers of a trusted proxy say. Without either
 * it is only path and query, because anybody can write any host into a request.
 */
export function publicUrl({ publicBaseUrl, trustedProxies }: OriginSettings, request: InnerRequest): string {
  const { target, header, remoteAddress } = request
  if (publicBaseUrl !== undefined) return urlBelow(publicBaseUrl, target)
  if (!trustedProxies.has(remoteAddress)) return target
  const scheme = last(header('x-forwarded-proto'))
  const host = last(header('x-forwarded-host')) ?? header('host')
  return scheme === undefined || host === undefined ? target : `${scheme}://${host}${target}`
}

/** The URL by which a source verifies a request: the one that its provider called, if it needs that, else the target. */
export function urlToVerify(
  { needsUrl, publicBaseUrl }: Pick<Source, 'needsUrl' | 'publicBaseUrl'>,
  origin: OriginSettings,
  request: InnerRequest,
): string {
  if (!needsUrl) return request.target
  return publicUrl(publicBaseUrl === undefined ? origin : { ...origin, publicBaseUrl }, request)
}

/**
 * The URL of `target`, if URLs begin with `baseUrl`. The target `/` stands for `baseUrl` itself, whether that ends in a
 * slash or not, because a proxy that strips a path leaves `/` of both. If `baseUrl` is only a host, `/` is the path
 * called there.
 */
export function urlBelow(baseUrl: string, target: string): string {
  const isItself = /^\/(?:\?|$)/.test(target) && !/^https?:\/\/[^/]+$/i.test(baseUrl)
  return isItself ? baseUrl + target.slice(1) : baseUrl.replace(/\/+$/, '') + target
}

/** What stands before `/callbacks/<source>` in the callback URL of a source. Undefined for any other URL. */
export function baseOfCallbackUrl(url: string, source: string): string | undefined {
  const at = url.search(new RegExp(`/callbacks/${RegExp.escape(source)}(?:/|$)`))
  return at < 0 ? undefined : url.slice(0, at)
}

/**
 * The address of the sender: the last one in `X-Forwarded-For` that is no trusted proxy, or the first if all are. Each
 * address was written by the next one in the list, so those before a stranger's are not believed.
 */
export function clientAddress(
  { trustedProxies }: Pick<OriginSettings, 'trustedProxies'>,
  { header, remoteAddress }: Pick<InnerRequest, 'header' | 'remoteAddress'>,
): string | undefined {
  if (!trustedProxies.has(remoteAddress)) return remoteAddress
  const chain = (header('x-forwarded-for') ?? '')
    .split(',')
    .map((part) => withoutPort(part.trim()))
    .filter((address) => address !== '')
  return chain.findLast((address) => !trustedProxies.has(address)) ?? chain[0] ?? remoteAddress
}

/** Some proxies write `198.51.100.1:4711` and `[2001:db8::1]:4711`. */
function withoutPort(address: string): string {
  const match = /^(?:\[([^\]]*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$/.exec(address)
  return match?.[1] ?? match?.[2] ?? address
}

/**
 * The value that the nearest proxy wrote. A value further out is not used even if its proxy is trusted: not every proxy
 * adds to these headers, and if one did not, the value in its place is the sender's.
 */
function last(value: string | undefined): string | undefined {
  return value?.split(',').at(-1)?.trim() || undefined
}
