/** A URL as it may be printed: without secret tokens, and without a query, which may say who called whom. */
export function maskUrl(url: string, tokens: readonly string[]): string {
  return maskTokens(url.replace(/\?.+$/s, '?...'), tokens)
}

/** A URL without secret tokens and passwords. */
export function maskTokens(url: string, tokens: readonly string[]): string {
  let masked = url.replace(/^(\w+:\/\/)[^/?#]*@/, '$1')
  // Anywhere in the URL, because a proxy may have moved them.
  for (const token of tokens) {
    for (const written of [encodeURIComponent(token), token]) masked = masked.replaceAll(written, '***')
  }
  return masked.replace(/(\/callbacks\/[^/?#]+)\/[^/?#]+/, '$1/***')
}
