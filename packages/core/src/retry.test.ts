import fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaultRetry, MAX_DELAY_MS, nextStep } from './retry.ts'

const failed = { ok: false, retryable: true } as const
const middle = () => 0.5

test('the default schedule is the one that docs/handlers.md prints', () => {
  const schedule = Array.from({ length: 8 }, (_, index) =>
    nextStep(defaultRetry, { attempt: index + 1, ageMs: 0 }, failed, middle),
  )
  const seconds = schedule.map((step) => (step.kind === 'retry' ? step.delayMs / 1000 : step.kind))
  expect(seconds).toEqual([10, 20, 40, 80, 160, 320, 640, 'dead'])
})

test('whatever the attempt and the random number, the wait is within 20 % of its place in the schedule', () => {
  const policies = fc.record({
    maxAttempts: fc.constant(2 ** 31),
    firstDelayMs: fc.integer({ min: 100, max: 1e6 }),
    maxDelayMs: fc.integer({ min: 100, max: 1e9 }),
  })
  fc.assert(
    fc.property(
      policies,
      fc.integer({ min: 1, max: 5000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (policy, attempt, random) => {
        const step = nextStep({ ...defaultRetry, ...policy }, { attempt, ageMs: 0 }, failed, () => random)
        if (step.kind !== 'retry') throw new Error(step.kind)
        const base = Math.min(policy.firstDelayMs * 2 ** (attempt - 1), policy.maxDelayMs)
        expect(step.delayMs).toBeGreaterThanOrEqual(Math.floor(base * 0.8))
        expect(step.delayMs).toBeLessThanOrEqual(Math.ceil(base * 1.2))
      },
    ),
  )
})

test('the longest wait that a policy may set, however it is spread, is an integer of Postgres', () => {
  const policy = { ...defaultRetry, delaysMs: [MAX_DELAY_MS] }
  const step = nextStep(policy, { attempt: 1, ageMs: 0 }, failed, () => 1)
  expect(step.kind === 'retry' && step.delayMs).toBeLessThan(2 ** 31)
})

test('a failure that is not retryable is the last', () => {
  expect(nextStep(defaultRetry, { attempt: 1, ageMs: 0 }, { ok: false, retryable: false }, Math.random)).toEqual({
    kind: 'dead',
  })
})

test('success ends a delivery, also at the last attempt', () => {
  expect(nextStep(defaultRetry, { attempt: 8, ageMs: 0 }, { ok: true }, Math.random)).toEqual({ kind: 'succeeded' })
})

test('a list of waits goes on with its last', () => {
  const policy = { ...defaultRetry, delaysMs: [1000, 5000], maxAttempts: 5 }
  const waits = [1, 2, 3, 4, 5].map((attempt) => nextStep(policy, { attempt, ageMs: 0 }, failed, middle))
  expect(waits.map((step) => (step.kind === 'retry' ? step.delayMs : step.kind))).toEqual([
    1000,
    5000,
    5000,
    5000,
    'dead',
  ])
})

test('no attempt is made when the event would be too old for it', () => {
  const policy = { ...defaultRetry, maxAgeMs: 60_000 }
  expect(nextStep(policy, { attempt: 1, ageMs: 49_000 }, failed, middle)).toEqual({ kind: 'retry', delayMs: 10_000 })
  expect(nextStep(policy, { attempt: 1, ageMs: 51_000 }, failed, middle)).toEqual({ kind: 'dead' })
})

test('statuses that are never tried again end a delivery at once', () => {
  const policy = { ...defaultRetry, neverRetry: [400] }
  expect(nextStep(policy, { attempt: 1, ageMs: 0 }, { ...failed, statusCode: 400 }, middle)).toEqual({ kind: 'dead' })
  expect(nextStep(policy, { attempt: 1, ageMs: 0 }, { ...failed, statusCode: 500 }, middle).kind).toBe('retry')
})

test('a longer wait that the destination asks for is kept, up to an hour; a shorter one changes nothing', () => {
  const wait = (retryAfterMs: number) =>
    nextStep(defaultRetry, { attempt: 1, ageMs: 0 }, { ...failed, retryAfterMs }, middle)
  expect(wait(90_000)).toEqual({ kind: 'retry', delayMs: 90_000 })
  expect(wait(1)).toEqual({ kind: 'retry', delayMs: 10_000 })
  expect(wait(1e12)).toEqual({ kind: 'retry', delayMs: 3_600_000 })
  // Of a user's own function; Postgres takes whole milliseconds.
  expect(wait(90_000.4)).toEqual({ kind: 'retry', delayMs: 90_000 })
  expect(wait(Number.NaN)).toEqual({ kind: 'retry', delayMs: 10_000 })
  expect(nextStep(defaultRetry, { attempt: 1, ageMs: 0 }, failed, () => 0.123_456)).toEqual({
    kind: 'retry',
    delayMs: 8494,
  })
})
