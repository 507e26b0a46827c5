import type { Config } from '@ringback/core/config'
import type { ProviderRequest, Source } from '@ringback/core/providers/provider'
import { publicUrl } from '@ringback/core/providers/request-origin'
import type { quarantine } from '@ringback/core/store/schema'

/** A row of the table `quarantine`. */
export type Quarantined = typeof quarantine.$inferSelect

/**
 * What is in quarantine as a request again, as of its receipt. Several where the URL is signed and ended in a secret
 * token, which is not stored: one for each token that the source has today. One callback of a batch gets the provider's
 * envelope around it.
 */
export function requestsOf(
  row: Quarantined,
  source: Source,
  { origin, credentialDigest }: Pick<Config, 'origin' | 'credentialDigest'>,
): ProviderRequest[] {
  const header = (name: string) => row.headers[name]
  const body = row.scope === 'callback' ? (source.envelope?.([row.body]) ?? row.body) : row.body
  const targets = source.urlTokens.length === 0 ? [row.url] : source.urlTokens.map((token) => withToken(row.url, token))
  return targets.map((target) => ({
    method: row.method,
    url: source.needsUrl
      ? publicUrl(urlSettings(source, origin), { target, header, remoteAddress: undefined })
      : target,
    body,
    header,
    remoteAddress: row.remoteAddress ?? undefined,
    receivedAt: row.receivedAt,
    // Without a key nothing can be compared: credentials then stand as "[redacted]", which matches none.
    credentialDigest: credentialDigest ?? ((credential) => credential),
  }))
}

function urlSettings(source: Source, origin: Config['origin']): Config['origin'] {
  return source.publicBaseUrl === undefined ? origin : { ...origin, publicBaseUrl: source.publicBaseUrl }
}

/** A token has only characters that a path holds as they are. */
function withToken(url: string, token: string): string {
  return url.replace('/***', () => `/${token}`)
}
