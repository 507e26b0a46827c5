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

/** Names that carry credentials, such as `authorization`, `cookie`, `x-api-key`, `x_access_key`, `x-auth`, `x-application-id`. */
const CREDENTIAL =
  /authorization|cookie|passw|secret|token|credential|application[-_]?id|(?:api|access|auth|private)[-_]?key|(?:^|[-_])auth$/

/** In a header that is to be kept: `Basic ...`, or a bearer token that is no JWT. */
const PASSWORD_OR_TOKEN = /^(?:basic\s|bearer\s+[^.]*$)/i

/** What a source says of headers that the rules above would misjudge. */
export interface HeaderRules {
  /** Signatures and ids that look like something else; what comes in them is a credential if it looks like a password or a fixed token. */
  keptHeaders: readonly string[]
  /** The one of them in which, by configuration, nothing but a signature comes. */
  signatureHeader?: string | undefined
  /** Credentials by configuration, whatever they are called. */
  credentialHeaders: readonly string[]
  /** The tokens that its URL may end in: proxies write that URL into headers such as `x-original-url`. */
  urlTokens: readonly string[]
}

/**
 * The request headers worth storing: names in lower case, credentials as `replaceCredential` has them, signatures as they
 * are. What goes beyond `maxBytes` in all is left out, of those that a source keeps last.
 */
export function headersToKeep(
  headers: Record<string, string | string[] | undefined>,
  rules: HeaderRules,
  replaceCredential: (credential: string) => string,
  maxBytes: number,
): Record<string, string> {
  const kept: Record<string, string> = {}
  let bytes = 0
  const keep = (name: string) => {
    const value = headers[name]
    if (value === undefined) return
    const text = isCredential(name, String(value), rules) ? replaceCredential(String(value)) : String(value)
    const size = name.length + text.length
    if (bytes + size > maxBytes) return
    bytes += size
    kept[name] = text
  }
  rules.keptHeaders.forEach(keep)
  for (const name in headers) {
    if (!OF_THE_CONNECTION.has(name) && !rules.keptHeaders.includes(name)) keep(name)
  }
  return kept
}

function isCredential(name: string, value: string, rules: HeaderRules): boolean {
  if (rules.credentialHeaders.includes(name)) return true
  const isKept = rules.keptHeaders.includes(name)
  if (!isKept && rules.urlTokens.some((token) => value.includes(`/${token}`))) return true
  if (!CREDENTIAL.test(name) || name === rules.signatureHeader) return false
  return !isKept || PASSWORD_OR_TOKEN.test(value)
}

/** What stands in the place of a credential that is not kept. */
export function redact(): string {
  return '[redacted]'
}
