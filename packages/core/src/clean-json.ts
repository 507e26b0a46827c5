/**
 * JSON text that Postgres takes as jsonb, as near to `json` as can be: U+0000 and lone surrogates in strings become
 * U+FFFD, and numbers beyond the range of a double become strings. Escapes beyond ASCII become the characters that they
 * mean, for a database whose encoding is not UTF8 refuses them. `json` must be valid JSON.
 */
export function cleanJson(json: string): string {
  return json.replaceAll(STRING_OR_NUMBER, (token) => {
    if (token.startsWith('"')) return token.includes('\\u') ? token.replaceAll(ESCAPE, cleanEscape) : token
    return isTooLarge(token) ? JSON.stringify(token) : token
  })
}

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/gs

/** An escaped backslash comes first, so that the "\u" in `"\\u0000"` is read as plain text; a pair before its halves. */
const ESCAPE = /\\\\|\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|\\u[\da-fA-F]{4}/g

function cleanEscape(escape: string): string {
  const text = String(JSON.parse(`"${escape}"`))
  if (text === '\u0000' || !text.isWellFormed()) return '\ufffd'
  return text > '\u007f' ? text : escape
}

/**
 * Whether JSON may have numbers that {@link cleanJson} makes strings although jsonb takes them: Postgres prints `1e131071` with
 * all its digits, and a list of them in a callback of 100 KB as a gigabyte. Quick, because it looks at every callback.
 */
export function mayHaveLargeExponents(json: Buffer): boolean {
  return LARGE_EXPONENT.test(json.toString('latin1'))
}

const LARGE_EXPONENT = /(?:^|[:,[\s])-?\d[\d.]*[eE][+-]?\d{3}/

/** What a double can hold goes from 5e-324 to 1e308. */
const MAX_EXPONENT = 324

function isTooLarge(number: string): boolean {
  return number.length > 1000 || Math.abs(Number(/[eE](.*)$/.exec(number)?.[1] ?? 0)) > MAX_EXPONENT
}
