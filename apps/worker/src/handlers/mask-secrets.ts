// For what is kept of answers: some destinations answer with what they were sent.

/** `text` without these secrets. A single character is none. */
export function maskSecrets(text: string, secrets: readonly string[]): string {
  return secrets
    .filter(({ length }) => length > 1)
    .toSorted((a, b) => b.length - a.length) // one may begin with another
    .reduce((masked, secret) => masked.replaceAll(secret, '***'), text)
}

/** What may be secret of a destination's URL. */
export function secretsOf({ pathname, search }: URL): string[] {
  return [pathname, search]
}
