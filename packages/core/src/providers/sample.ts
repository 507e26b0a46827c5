import { randomBytes, randomUUID } from 'node:crypto'
import { toUnixSeconds } from './proof.ts'
import type { Method, Sample } from './provider.ts'

// Samples with fresh ids and times. A text may hold {{kind}}, {{kind:length}} and {{kind#name}}: the same name is the
// same value within one sample. A JSON text that is only {{number:kind}} becomes a number.

/** A sample with its placeholders filled: what the provider would send, before it is signed. */
export interface FilledSample {
  method: Method
  query: Record<string, string>
  headers: Record<string, string>
  /** One callback's JSON, or the form's body; empty for GET. */
  body: Buffer
}

const PLACEHOLDER = /\{\{(?:number:)?(\w+)(?::(\d+))?(?:#(\w+))?\}\}/g
const NUMBER = /"\{\{number:([^}]+)\}\}"/g

let sequence = 0n

const kinds = new Map<string, (length: number, at: Date) => string>([
  ['uuid', () => randomUUID()],
  [
    'hex',
    (length) =>
      randomBytes(Math.ceil(length / 2))
        .toString('hex')
        .slice(0, length),
  ],
  ['digits', (length) => Array.from(randomBytes(length), (byte) => byte % 10).join('')],
  ['alphanumeric', (length) => randomBytes(length).toString('hex').slice(0, length)],
  // From the time in microseconds, so that runs do not share any.
  ['sequence', () => String((sequence = max(sequence + 1n, BigInt(Date.now()) * 1000n)))],
  ['iso', (_length, at) => at.toISOString()],
  ['unix', (_length, at) => String(toUnixSeconds(at))],
  ['unixMs', (_length, at) => String(at.getTime())],
  ['utc', (_length, at) => at.toISOString().slice(0, 19).replace('T', ' ')],
])

/** Fills a sample in as of `at`. Throws for a placeholder that does not exist. */
export function fillSample(sample: Sample, at: Date): FilledSample {
  const named = new Map<string, string>()
  const fill = (text: string): string =>
    text.replaceAll(PLACEHOLDER, (placeholder, kind: string, length: string | undefined, name: string | undefined) => {
      const make = kinds.get(kind)
      if (make === undefined) throw new Error(`A sample holds ${placeholder}, which is no placeholder`)
      const value = (name !== undefined && named.get(`${kind}#${name}`)) || make(Number(length ?? 32), at)
      if (name !== undefined) named.set(`${kind}#${name}`, value)
      return value
    })
  const fillValues = (texts: Record<string, string> = {}) =>
    Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, fill(text)]))

  const { method = 'POST', json, form } = sample
  const contentType = json !== undefined ? 'application/json' : form && 'application/x-www-form-urlencoded'
  const text =
    json !== undefined
      ? fill(JSON.stringify(json).replaceAll(NUMBER, '{{$1}}'))
      : new URLSearchParams(fillValues(form)).toString()
  return {
    method,
    query: fillValues(sample.query),
    headers: { ...(contentType && { 'content-type': contentType }), ...fillValues(sample.headers) },
    body: Buffer.from(text),
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
