import type { Config } from '@ringback/core/config'
import type { ProviderRequest, Source } from '@ringback/core/providers/provider'
import { urlToVerify } from '@ringback/core/providers/request-origin'
import type { quarantine } from '@ringback/core/store/schema'

/** A row of the table `quarantine`. */
export type Quarantined = typeof quarantine.$inferSelect

/**
 * Makes a quarantined item into a request again, as of its receipt. A secret token in the URL is not stored, so there are
 * several requests for a source with tokens: one for each token that it has today. A callback of a batch is put into the
 * provider's envelope.
 */
export function requestsOf(
  row: Quarantined,
  source: Source,
  { origin, credentialDigest }: Pick<Config, 'origin' | 'credentialDigest'>,
): ProviderRequest[] {
  const header = (name: string) => row.headers[name]
  const body = isOfCallback(row) ? (source.envelope?.([row.body]) ?? row.body) : row.body
  const targets = source.urlTokens.length === 0 ? [row.url] : source.urlTokens.map((token) => withToken(row.url, token))
  return targets.map((target) => ({
    method: row.method,
    url: urlToVerify(source, origin, { target, header, remoteAddress: undefined }),
    body,
    header,
    remoteAddress: row.remoteAddress ?? undefined,
    receivedAt: row.receivedAt,
    // Without a key nothing can be compared: credentials are then stored as "[redacted]", which matches none.
    credentialDigest: credentialDigest ?? ((credential) => credential),
  }))
}

/** Whether the body is that of one callback. An item from before migration 0002 does not say so, and has its id. */
function isOfCallback({ scope, callbackId }: Quarantined): boolean {
  return scope === null ? callbackId !== null : scope === 'callback'
}

/** Puts a token into a stored URL as it is: tokens have only characters that need no escape in a path. */
function withToken(url: string, token: string): string {
  return url.replace('/***', () => `/${token}`)
}
