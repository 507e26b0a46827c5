import { expect, test } from 'vitest'
import { matcher } from './filter.ts'

const event = { source: 'voximplant', accountId: '1', type: 'sms_inbound' }

test.each([
  [{}, true],
  [{ source: 'voximplant' }, true],
  [{ source: 'vobiz' }, false],
  [{ type: 'sms_*' }, true],
  [{ type: '*inbound' }, true],
  [{ type: '*' }, true],
  [{ type: 'sms' }, false],
  [{ type: 'sms.inbound' }, false],
  [{ type: ['min_balance', 'sms_*'] }, true],
  [{ type: [] }, false],
  [{ account: ['1', '2'] }, true],
  [{ source: 'voximplant', type: 'sms_*', account: '2' }, false],
])('%j concerns the event: %s', (filter, expected) => {
  expect(matcher(filter)(event)).toBe(expected)
})

test('a pattern means its characters: only * is special', () => {
  expect(matcher({ type: 'a.c*' })({ ...event, type: 'abc' })).toBe(false)
  expect(matcher({ type: 'a.c*' })({ ...event, type: 'a.c\nd' })).toBe(true)
})
