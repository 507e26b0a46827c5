/** They belong to one connection or to the transfer, and say nothing about the callback. */
const OF_THE_CONNECTION = new Set([
  'accept',
  'accept-encoding',
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Names that carry credentials: `authorization`, `cookie`, `x-api-key`, `auth-token`, `x-client-secret`. */
const CREDENTIAL = /authorization|cookie|password|secret|token|api-?key/

const MAX_BYTES = 8 * 1024

/**
 * The request headers worth storing: names in lower case, credentials as `[redacted]`, signatures as they are. What goes
 * beyond 8 KiB in all is left out.
 */
export function headersToKeep(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const kept: Record<string, string> = {}
  let bytes = 0
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || OF_THE_CONNECTION.has(name)) continue
    const text = CREDENTIAL.test(name) ? '[redacted]' : String(value)
    bytes += name.length + text.length
    if (bytes > MAX_BYTES) break
    kept[name] = text
  }
  return kept
}
