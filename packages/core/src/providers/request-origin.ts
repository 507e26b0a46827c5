import type { AddressList } from './access.ts'

// Who called, and by which URL: what ingest sees is the inner side of proxies.

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
 * The URL that the provider called. From configuration where it is there; else from the headers of a trusted proxy; else
 * only path and query, for a host that anybody can write into a request proves nothing.
 */
export function publicUrl({ publicBaseUrl, trustedProxies }: OriginSettings, request: InnerRequest): string {
  const { target, header, remoteAddress } = request
  if (publicBaseUrl !== undefined) return urlBelow(publicBaseUrl, target)
  if (!trustedProxies.has(remoteAddress)) return target
  const scheme = last(header('x-forwarded-proto'))
  const host = last(header('x-forwarded-host')) ?? header('host')
  return scheme === undefined || host === undefined ? target : `${scheme}://${host}${target}`
}

/**
 * The URL of a target where URLs begin with `baseUrl`. The target `/` is that URL itself, with or without a slash at its end:
 * a proxy that takes a path away leaves `/` of both. Of a host alone it is the path that HTTP clients call.
 */
export function urlBelow(baseUrl: string, target: string): string {
  const isItself = /^\/(?:\?|$)/.test(target) && !/^https?:\/\/[^/]+$/i.test(baseUrl)
  return isItself ? baseUrl + target.slice(1) : baseUrl.replace(/\/+$/, '') + target
}

/**
 * The address of the sender: the last one in `X-Forwarded-For` that is no trusted proxy, or the first, where all are. Each was
 * written by whoever stands behind it, so that none is believed before a stranger's.
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
 * The value that the nearest proxy wrote. Not that of a proxy further out, even if it is trusted: not every proxy adds to these headers,
 * and where one left them alone, what stands in its place is the sender's.
 */
function last(value: string | undefined): string | undefined {
  return value?.split(',').at(-1)?.trim() || undefined
}
