import { describe, expect, test } from 'vitest'
import { requestOf, sourceOf } from '../../test/support/sign-and-read.ts'
import { fonestorm } from './fonestorm.ts'
import { generic } from './generic.ts'

/** A part of a body; `more` is what its Content-Disposition, and what other headers, say besides. */
const part = (name: string, value: string, more = '') =>
  `--B\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`
const end = '--B--\r\n'

const byBytes = sourceOf(generic({ urlTokens: 'token' }))!
function read(body: string, contentType = 'multipart/form-data; boundary=B', source = byBytes) {
  const reading = source.read(requestOf({ headers: { 'content-type': contentType }, body }))
  return reading.kind === 'read' ? reading.callbacks[0]! : reading
}
const payloadOf = (body: string, contentType?: string) => {
  const callback = read(body, contentType)
  return callback.kind === 'genuine' ? (JSON.parse(callback.payload!) as unknown) : callback.reason
}

describe('a form that comes as multipart/form-data', () => {
  test('is read as a form, and kept as it came', () => {
    const source = sourceOf(
      generic({ urlTokens: 'token', callbackId: { field: 'CallSid' }, type: { field: 'Status' } }),
    )!
    const body = part('CallSid', 'abc') + part('Status', 'completed') + end
    expect(read(body, undefined, source)).toMatchObject({
      kind: 'genuine',
      callbackId: 'abc',
      type: 'completed',
      payload: '{"CallSid":"abc","Status":"completed"}',
      raw: Buffer.from(body),
    })
    const calls = sourceOf(fonestorm({ urlTokens: 'token' }))!
    expect(read(part('id', 'a') + part('message', 'hi') + end, undefined, calls)).toMatchObject({ callbackId: 'a' })
  })

  test('is the same callback again under another boundary, where its bytes name it', () => {
    const nameOf = (value: string, boundary: string) => {
      const body = (part('CallSid', value) + end).replaceAll('--B', `--${boundary}`)
      const callback = read(body, `multipart/form-data; boundary=${boundary}`)
      return callback.kind === 'genuine' ? callback.callbackId : callback.reason
    }
    expect(nameOf('a', '----x1')).toMatch(/^body:/)
    expect(nameOf('a', '----x1')).toBe(nameOf('a', '----y2'))
    expect(nameOf('a', '----x1')).not.toBe(nameOf('b', '----x1'))
  })

  test('may hold any text, fields without a text, and a field more than once', () => {
    const body =
      part('a&b', '1=2&3 +%41\r\n--\r\né') + part('empty', '') + part('list[]', 'x') + part('list[]', 'y') + end
    expect(payloadOf(body)).toEqual({ 'a&b': '1=2&3 +%41\r\n--\r\né', empty: '', 'list[]': ['x', 'y'] })
  })

  test.each([
    'multipart/form-data; boundary="B"',
    'Multipart/Form-Data;charset=utf-8;boundary=B',
    'multipart/form-data; boundary=B; charset=utf-8',
  ])('is read by the boundary of its content type: %s', (contentType) => {
    expect(payloadOf(part('a', '1') + end, contentType)).toEqual({ a: '1' })
  })

  test('is read as senders write it: other headers, a bare name, a line end before it, words behind it', () => {
    const headers = '\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit'
    expect(payloadOf(`\r\n${part('a', '1', headers)}${end}the end`)).toEqual({ a: '1' })
    expect(payloadOf(`--B\r\ncontent-disposition:form-data;name=a\r\n\r\n1\r\n${end}`)).toEqual({ a: '1' })
  })

  test('has its files passed over', () => {
    const file = part('file', '\u0000\u0001', '; filename="a.wav"\r\nContent-Type: audio/wav')
    expect(payloadOf(part('a', '1') + file + part('b', '2') + end)).toEqual({ a: '1', b: '2' })
  })

  test('is refused where it has more fields than any provider sends', () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => part(`f${index}`, '')).join('') + end
    expect(Object.keys(payloadOf(many(1000)) as object)).toHaveLength(1000)
    expect(payloadOf(many(1001))).toBe('unreadable_body')
  })

  test.each([
    ['no boundary', part('a', '1') + end, 'multipart/form-data'],
    ['another boundary', part('a', '1') + end, 'multipart/form-data; boundary=C'],
    ['another content type', part('a', '1') + end, 'application/x-www-form-urlencoded'],
    ['no end', part('a', '1'), undefined],
    ['a part behind its end', part('a', '1') + end + part('b', '2') + end, undefined],
    ['no fields', end, undefined],
    ['a file alone', part('file', 'x', '; filename=x') + end, undefined],
    ['a part without headers', `--B\r\n\r\n1\r\n${end}`, undefined],
    ['a part without a name', `--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n${end}`, undefined],
    ['a name that never ends', `--B\r\nContent-Disposition: form-data; name="a\r\n\r\n1\r\n${end}`, undefined],
    ['an encoded value', part('a', 'MQ==', '\r\nContent-Transfer-Encoding: base64') + end, undefined],
    ['line ends of another kind', (part('a', '1') + end).replaceAll('\r\n', '\n'), undefined],
  ])('is refused, not stored as a form with odd names: %s', (_what, body, contentType) => {
    expect(payloadOf(body, contentType)).toBe('unreadable_body')
  })
})
