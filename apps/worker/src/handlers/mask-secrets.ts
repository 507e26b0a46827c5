// Masks secrets in stored answers: some destinations answer with what they were sent.

/** `text` with these secrets replaced by `***`. A single character is not taken for a secret. */
export function maskSecrets(text: string, secrets: readonly string[]): string {
  return secrets
    .filter(({ length }) => length > 1)
    .toSorted((a, b) => b.length - a.length) // the longest first: one may begin with another
    .reduce((masked, secret) => masked.replaceAll(secret, '***'), text)
}

/** The parts of a destination's URL that may be secret. */
export function secretsOf({ pathname, search }: URL): string[] {
  return [pathname, search]
}
