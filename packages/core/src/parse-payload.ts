declare global {
  interface JSON {
    /** With the value's own text, which TypeScript's library does not know yet. */
    parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): unknown
  }
}

/** A run of digits that may be beyond 2^53: only then is the slow way needed. */
const LONG_NUMBER = /\d{16}/

/** JSON as a handler sees it: integers that a JavaScript number would round are strings with every digit. */
export function parsePayload(json: string): unknown {
  if (!LONG_NUMBER.test(json)) return JSON.parse(json)
  return JSON.parse(json, (_key, value: unknown, { source }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? source : value,
  )
}
