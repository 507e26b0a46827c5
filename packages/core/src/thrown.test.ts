import { expect, test } from 'vitest'
import { messagesOf } from './thrown.ts'

test('an error is told of with its causes, of which some have only a code, and which may go round', () => {
  expect(messagesOf(new Error('outer', { cause: new Error('inner') }))).toBe('outer: inner')
  const unanswered = Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })
  expect(messagesOf(new TypeError('fetch failed', { cause: unanswered }))).toBe('fetch failed: ECONNREFUSED')
  expect(messagesOf(new Error('outer', { cause: new TypeError() }))).toBe('outer: TypeError')
  const own = new Error('again')
  own.cause = own
  expect(messagesOf(own)).toBe('again: again: again: again: again')
})

test('a cause that is no error, or that throws, is left out', () => {
  expect(messagesOf(new Error('outer', { cause: { secret: 'x' } }))).toBe('outer')
  const throwing = Object.defineProperty(new Error('outer'), 'cause', {
    get: () => {
      throw new Error('no')
    },
  })
  expect(messagesOf(throwing)).toBe('outer')
  expect(messagesOf(null)).toBe('null')
})
