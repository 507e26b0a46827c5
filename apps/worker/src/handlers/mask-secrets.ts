// Masks secrets in stored answers: some destinations answer with what they were sent, in a page, or in JSON.

const MAX_RESPONSE_LENGTH = 2000
/** How much is read for it: `***` is mostly shorter than what it stands for. */
const MAX_MASKED_LENGTH = 8000

/** What is kept of an answer: its beginning, without secrets. */
export function keptOf(text: string, secrets: readonly string[]): string {
  return maskSecrets(text.slice(0, MAX_MASKED_LENGTH), secrets).slice(0, MAX_RESPONSE_LENGTH)
}

/**
 * `text` with these secrets replaced by `***`, also as JSON, HTML and URLs may spell them. A single character is not taken for
 * a secret.
 */
export function maskSecrets(text: string, secrets: readonly string[]): string {
  return secrets
    .flatMap((secret) => [secret, percentDecoded(secret)])
    .filter(({ length }) => length > 1)
    .toSorted((a, b) => b.length - a.length) // the longest first: one may begin with another
    .reduce(maskSecret, text)
}

/** Shorter values are hardly secrets, and would be found everywhere. */
export const MIN_SECRET_LENGTH = 8

/** The parts of a destination's URL that may be secret. */
export function secretsOf({ pathname, search }: URL): string[] {
  return [pathname, search]
}

/** A segment of a path that is a name, such as `webhooks`: answers hold it for reasons of their own. */
const PATH_NAME = /^[a-z_-]+$/

/** The segments of the path and the values in the query of a URL that may each be a secret. */
export function secretValuesOf({ pathname, searchParams }: URL): string[] {
  const segments = pathname.split('/').filter((segment) => !PATH_NAME.test(segment))
  return [...segments, ...searchParams.values()].filter(({ length }) => length >= MIN_SECRET_LENGTH)
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // a "%" that encodes nothing
  }
}

/** Expressions for longer texts are too large. They hold a payload, which nobody spells anew. */
const MAX_SPELLED_LENGTH = 1000

function maskSecret(text: string, secret: string): string {
  // Letters and digits have no other spelling, so most texts are done with here.
  const runs = secret.match(/[a-z\d]+/gi) ?? []
  if (!runs.every((run) => text.includes(run))) return text
  const isLong = secret.length > MAX_SPELLED_LENGTH
  return text.replaceAll(isLong ? secret : new RegExp(secret.replaceAll(/[^a-z\d]/gi, spellings), 'g'), '***')
}

const HTML_NAMES: Record<string, string> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot', "'": 'apos' }

/** An expression for one UTF-16 unit: itself, its escapes in JSON and HTML, and percent-encoded. */
function spellings(unit: string): string {
  const code = unit.charCodeAt(0)
  const hex = code.toString(16)
  const eitherCase = hex.replaceAll(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`)
  const json = String.raw`\\u${'0'.repeat(4 - hex.length)}${eitherCase}`
  const html = [HTML_NAMES[unit] ?? [], `#0*${code}`, `#[xX]0*${eitherCase}`].flat().map((name) => `&${name};`)
  return `(?:${[json, ...html, `%${eitherCase}`, String.raw`\\?${RegExp.escape(unit)}`].join('|')})`
}
