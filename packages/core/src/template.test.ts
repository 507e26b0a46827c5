import { describe, expect, test } from 'vitest'
import { anEvent } from '../../../test/support/an-event.ts'
import { render, truncate } from './template.ts'

const event = anEvent({
  payload: {
    callback_id: 42,
    text: '<b>',
    sms_inbound: { text: 'hi', parts: [{ n: 1 }] },
    'a.b': 'dotted',
    none: null,
  },
  details: { text: 'hi' },
})
const plain = (value: string) => value

describe('a template', () => {
  test.each([
    ['((type)) at ((occurredAt))', 'sms_inbound at 2026-11-22T05:00:00.000Z'],
    ['{{callback_id}}', '42'],
    ['((sms_inbound.text)), ((details.text)), ((payload.sms_inbound.text))', 'hi, hi, hi'],
    ['((sms_inbound.parts.0.n))', '1'],
    ['((sms_inbound.parts))', '[{"n":1}]'],
    ['((a.b))', 'dotted'],
    ['[((callId))((none))((nothing))((sms_inbound.text.length))]', '[]'],
    ['((constructor))((__proto__.x))', ''],
    ['((see the runbook)) {{ }} (())', '((see the runbook)) {{ }} (())'],
  ])('%s is %s', (template, expected) => {
    expect(render(template, event, plain)).toBe(expected)
  })

  test('escapes values, and not its own text', () => {
    expect(render('<i>((text))</i>', event, (value) => value.replace('<', '&lt;'))).toBe('<i>&lt;b></i>')
  })

  test('does not read tokens that a value holds', () => {
    expect(render('((text))', { ...event, payload: { text: '((type)) $&' } }, plain)).toBe('((type)) $&')
  })

  test('takes at most 10,000 characters of a value', () => {
    expect(render('((text))', { ...event, payload: { text: 'x'.repeat(20_000) } }, plain)).toHaveLength(10_000)
  })
})

test('a text is cut between characters', () => {
  expect(truncate('abc', 3)).toBe('abc')
  expect(truncate('abcd', 3)).toBe('ab…')
  expect(truncate('a😀bc', 3)).toBe('a…')
})
