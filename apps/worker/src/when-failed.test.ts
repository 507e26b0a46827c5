import { expect, test } from 'vitest'
import { logWhenFailed } from './when-failed.ts'

test('a "when" that always throws is logged at once, and then once a minute for each handler with its count', () => {
  const lines: object[] = []
  let now = 0
  const whenFailed = logWhenFailed({ error: (line: object) => void lines.push(line) }, () => now)
  const fail = (handler: string) => whenFailed({ handler, eventId: `at ${now}`, error: 'x'.repeat(1000) })
  for (; now <= 60_000; now += 1000) fail('a')
  fail('b')
  expect(lines).toEqual([
    { handler: 'a', eventId: 'at 0', error: 'x'.repeat(500), count: 1 },
    { handler: 'a', eventId: 'at 60000', error: 'x'.repeat(500), count: 60 },
    { handler: 'b', eventId: 'at 61000', error: 'x'.repeat(500), count: 1 },
  ])
})
