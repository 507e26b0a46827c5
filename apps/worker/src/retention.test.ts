import { parseEnvironment } from '@ringback/core/environment'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { retentionOf, retentionVariables } from './retention.ts'

const read = (environment: Record<string, string>) =>
  retentionOf(parseEnvironment(z.object(retentionVariables), environment))

test('variables that are not set have their defaults', () => {
  expect(read({})).toEqual({ days: 90, deadLetterDays: 365, quarantineDays: 90, nameDays: undefined })
  expect(read({ RETENTION_DAYS: '30', QUARANTINE_DAYS: '400', NAME_RETENTION_DAYS: '30' })).toEqual({
    days: 30,
    deadLetterDays: 365,
    quarantineDays: 30,
    nameDays: 30,
  })
})

test.each([
  [{ RETENTION_DAYS: '1' }, /RETENTION_DAYS must be at least 7 days/],
  [{ RETENTION_DAYS: '90d' }, /RETENTION_DAYS must be a whole number of days/],
  [{ KEEP_DEAD_LETTERS_DAYS: '-1' }, /KEEP_DEAD_LETTERS_DAYS must be a whole number of days/],
  [{ NAME_RETENTION_DAYS: '30' }, /names must be kept at least as long as events/],
])('%j is refused, with what to do', (environment, message) => {
  expect(() => read(environment)).toThrow(message)
})
