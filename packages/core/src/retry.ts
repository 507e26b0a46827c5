/** When a failed delivery is tried again. */
export interface RetryPolicy {
  /** Attempts in all, the first included; after the last one the delivery is a dead letter. */
  maxAttempts: number
  /** Wait before the second attempt; doubled before each further one. */
  firstDelayMs: number
  maxDelayMs: number
}

/** 8 attempts over about 21 minutes; the schedule is printed in docs/handlers.md. */
export const defaultRetry: RetryPolicy = { maxAttempts: 8, firstDelayMs: 10_000, maxDelayMs: 6 * 3_600_000 }

/** What an attempt came to. A failure that is not `retryable` ends the delivery at once. */
export type AttemptResult = { ok: true } | { ok: false; retryable: boolean }

export type NextStep = { kind: 'succeeded' } | { kind: 'retry'; delayMs: number } | { kind: 'dead' }

/**
 * What follows attempt number `attempt` (the first is 1). The wait doubles from `firstDelayMs` up to `maxDelayMs` and is
 * spread by 20 % either way, so that a handler that recovers isn't hit by everything at once.
 * @param random a number in [0, 1), as Math.random gives
 */
export function nextStep(policy: RetryPolicy, attempt: number, result: AttemptResult, random: () => number): NextStep {
  if (result.ok) return { kind: 'succeeded' }
  if (!result.retryable || attempt >= policy.maxAttempts) return { kind: 'dead' }
  // 2 ** 1023 is the last finite power; the far end is Infinity and maxDelayMs wins.
  const base = Math.min(policy.firstDelayMs * 2 ** (attempt - 1), policy.maxDelayMs)
  return { kind: 'retry', delayMs: Math.round(base * (0.8 + 0.4 * random())) }
}
