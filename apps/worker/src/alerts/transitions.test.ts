import { describe, expect, test } from 'vitest'
import { keyOf, transitions } from './transitions.ts'
import type { Condition, OpenAlert } from './transitions.ts'

const now = new Date('2026-01-01T12:00:00Z')

const failing = (occurrences: number | undefined, subject = 'crm'): Condition => ({
  kind: 'destination_failing',
  subject,
  occurrences,
  text: 'it fails',
  details: {},
})

function opened(occurrences: number, { subject = 'crm', raisedAt = now } = {}): OpenAlert {
  const { kind, text, details } = failing(occurrences, subject)
  return { id: '1', key: keyOf({ kind, subject }), kind, subject, occurrences, text, details, raisedAt }
}

test('what is new is raised, and what is known is not raised again', () => {
  expect(transitions([], [failing(3)], now)).toEqual({ raise: [failing(3)], seen: [], resolve: [] })
  expect(transitions([opened(3)], [failing(3)], now)).toMatchObject({ raise: [], resolve: [] })
})

test('what is gone is resolved, each subject by itself', () => {
  const [a, b] = [opened(3, { subject: 'a' }), opened(3, { subject: 'b' })]
  expect(transitions([a, b], [failing(4, 'b')], now).resolve).toEqual([a])
})

describe('reminders', () => {
  test.each([
    [3, 9, undefined],
    [3, 10, 10],
    [9, 12, 10],
    [10, 99, undefined],
    [12, 2000, 1000],
    [99, 100, 100],
    [1000, 1_000_000, undefined],
  ])('from %i to %i occurrences: at %s', (before, after, remindAt) => {
    const [seen] = transitions([opened(before)], [failing(after)], now).seen
    expect(seen).toMatchObject({ remindAt, occurrences: after })
  })

  test('a count that has fallen keeps its maximum, so that no reminder comes twice', () => {
    const [seen] = transitions([opened(12)], [failing(4)], now).seen
    expect(seen).toMatchObject({ remindAt: undefined, occurrences: 12 })
  })

  test('what has no count is reminded of by its minutes', () => {
    const raisedAt = new Date(now.getTime() - 10 * 60_000)
    expect(transitions([opened(9, { raisedAt })], [failing(undefined)], now).seen).toMatchObject([{ remindAt: 10 }])
  })
})
