import { expect, test } from 'vitest'
import { composeCallbackId, isCallbackId, nameByBytes } from './callback-id.ts'

test('what only its bytes name has one name for ten minutes, and knows the one of the ten minutes before', () => {
  const named = (time: string, text = 'body') => nameByBytes(Buffer.from(text), new Date(`2026-01-01T${time}Z`))
  const first = named('00:10:00')
  expect(named('00:19:59.999')).toEqual(first)
  const next = named('00:20:00')
  expect(next.callbackId).not.toBe(first.callbackId)
  expect(next.previousName).toEqual({ callbackId: first.callbackId, windowSeconds: 600 })
  expect(named('00:10:00', 'another').callbackId).not.toBe(first.callbackId)
})

test('a name has up to 512 characters, and no control character anywhere', () => {
  expect(composeCallbackId('x'.repeat(512))).toBe('x'.repeat(512))
  expect(composeCallbackId('x'.repeat(513))).toMatch(/^x{440}:sha256=[0-9a-f]{64}$/)
  expect(isCallbackId('x'.repeat(512))).toBe(true)
  for (const text of ['', 'x'.repeat(513), '\u0000a', 'a\u0000b', 'a\n', '\u007f', '\ud800']) {
    expect(isCallbackId(text), JSON.stringify(text)).toBe(false)
  }
})
