declare global {
  interface JSON {
    /** TypeScript's library does not know `context` yet, which holds the value's own text. */
    parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): unknown
  }
}

/** A run of digits that may be beyond 2^53. Only such a text has to be parsed the slow way. */
const LONG_NUMBER = /\d{16}/

/** JSON as a handler sees it: integers that a JavaScript number would round are strings with every digit. May throw. */
export function parsePayload(json: string): unknown {
  if (!LONG_NUMBER.test(json)) return JSON.parse(json)
  return JSON.parse(json, (_key, value: unknown, { source }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? source : value,
  )
}
