import fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaultRetry, nextStep } from './retry.ts'

const failed = { ok: false, retryable: true } as const

test('the default schedule is the one that docs/handlers.md prints', () => {
  const middle = () => 0.5
  const schedule = Array.from({ length: 8 }, (_, index) => nextStep(defaultRetry, index + 1, failed, middle))
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
        const step = nextStep(policy, attempt, failed, () => random)
        if (step.kind !== 'retry') throw new Error(step.kind)
        const base = Math.min(policy.firstDelayMs * 2 ** (attempt - 1), policy.maxDelayMs)
        expect(step.delayMs).toBeGreaterThanOrEqual(Math.floor(base * 0.8))
        expect(step.delayMs).toBeLessThanOrEqual(Math.ceil(base * 1.2))
      },
    ),
  )
})

test('a failure that is not retryable is the last', () => {
  expect(nextStep(defaultRetry, 1, { ok: false, retryable: false }, Math.random)).toEqual({ kind: 'dead' })
})

test('success ends a delivery, also at the last attempt', () => {
  expect(nextStep(defaultRetry, 8, { ok: true }, Math.random)).toEqual({ kind: 'succeeded' })
})
