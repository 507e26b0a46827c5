import type { Config } from '@ringback/core/config'
import type { OutgoingRequest } from '@ringback/core/providers/provider'
import { sampleRequest, samplesOf } from './every-source.ts'

// Requests that no provider sends, made from genuine ones of every provider and scheme by mutilating every part.

/** A genuine request with one of the source's samples. */
export function genuineRequest(config: Config, name: string, random: () => number): OutgoingRequest {
  const samples = Object.values(samplesOf(config.sources.get(name)!))
  return sampleRequest(config, name, pick(samples, random), { callbacks: 2 })
}

const HOSTILE_TEXTS = [
  '',
  '\u0000',
  '%00',
  '\ud800',
  '((id))',
  '__proto__',
  'constructor',
  '..',
  '../../etc/passwd',
  "'; drop table events; --",
  '<script>',
  '9'.repeat(400),
  '-1',
  '1e999',
  'NaN',
  'null',
  'a'.repeat(5000),
  '=,;:|.',
  'Bearer ',
  'Basic ',
  'Basic OjpkaWdlc3Q=',
  'v1,',
  '\u202e\u0301',
]

const HOSTILE_BODIES = [
  Buffer.alloc(0),
  Buffer.from('null'),
  Buffer.from('[]'),
  Buffer.from('{}'),
  Buffer.from('"text"'),
  Buffer.from('0'),
  Buffer.from('[[[[{"a":[]}]]]]'),
  Buffer.from('['.repeat(10_000)),
  Buffer.from(`${'{"a":'.repeat(63)}1${'}'.repeat(63)}`),
  Buffer.from('{"__proto__":{"a":1},"constructor":1,"id":{}}'),
  Buffer.from('{"id":"\\u0000","data":{"id":"\\ud800"}}'),
  Buffer.from('{"id":1e400,"timestamp":99999999999999999999}'),
  Buffer.from('a&'.repeat(5000)),
  Buffer.from('%zz=%&%=%00&=&&=='),
  Buffer.from([0xff, 0xfe, 0x7b, 0x00]),
  Buffer.from([0xef, 0xbb, 0xbf, 0x7b, 0x7d]),
]

/** The same request with one to three things wrong with it. */
export function mutilated(request: OutgoingRequest, random: () => number): OutgoingRequest {
  let broken = request
  for (let count = 1 + Math.floor(random() * 3); count > 0; count--) broken = pick(MUTILATIONS, random)(broken, random)
  return broken
}

type Mutilation = (request: OutgoingRequest, random: () => number) => OutgoingRequest

const MUTILATIONS: readonly Mutilation[] = [
  (request, random) => ({ ...request, body: pick(HOSTILE_BODIES, random) }),
  (request, random) => ({ ...request, body: request.body.subarray(0, Math.floor(random() * request.body.length)) }),
  (request, random) => ({ ...request, body: Buffer.concat([request.body, pick(HOSTILE_BODIES, random)]) }),
  (request, random) => {
    const body = Buffer.from(request.body)
    for (let count = 1 + Math.floor(random() * 4); count > 0 && body.length > 0; count--) {
      body[Math.floor(random() * body.length)] = Math.floor(random() * 256)
    }
    return { ...request, body }
  },
  // Replaces a value. The structure stays, so this gets furthest.
  (request, random) => {
    const text = request.body.toString('latin1')
    const values = [...text.matchAll(/"[^"\\]*"|\d+|true|false|null|=[^&]*/g)]
    if (values.length === 0) return request
    const { index, 0: old } = pick(values, random)
    const hostile = pick(HOSTILE_TEXTS, random)
    const value = old.startsWith('=')
      ? `=${encodeURIComponent(hostile.toWellFormed())}`
      : pick([JSON.stringify(hostile), '{}', '[]', 'null', '1.5', '-0', '123456789012345678901234567890'], random)
    return { ...request, body: Buffer.from(text.slice(0, index) + value + text.slice(index + old.length), 'latin1') }
  },
  (request, random) => withHeader(request, random, () => undefined),
  (request, random) => withHeader(request, random, () => headerSafe(pick(HOSTILE_TEXTS, random))),
  (request, random) => withHeader(request, random, (value) => `${value}, ${value}`),
  (request, random) => withHeader(request, random, (value) => value.slice(0, Math.floor(random() * value.length))),
  (request, random) => withHeader(request, random, (value) => value.toUpperCase()),
  (request, random) => ({
    ...request,
    url: `${request.url}${request.url.includes('?') ? '&' : '?'}${pick(HOSTILE_TEXTS, random)
      .toWellFormed()
      .replaceAll(/[^\x21-\x7e]/g, '%00')}`,
  }),
  (request, random) => ({ ...request, method: pick(['GET', 'POST', 'PUT'] as const, random) }),
]

function withHeader(
  request: OutgoingRequest,
  random: () => number,
  change: (value: string) => string | undefined,
): OutgoingRequest {
  const name = pick([...Object.keys(request.headers), 'authorization', 'content-type'], random)
  const { [name]: old = '', ...others } = request.headers
  const value = change(old)
  return { ...request, headers: value === undefined ? others : { ...others, [name]: value } }
}

/** `text` with only the characters that an HTTP server accepts in a header. */
function headerSafe(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?')
}

/** One of the items, chosen by `random` from [0, 1). */
export function pick<Item>(items: readonly Item[], random: () => number): Item {
  return items[Math.floor(random() * items.length)]!
}
