/** When a failed delivery is tried again. */
export interface RetryPolicy {
  /** Attempts in all, the first included; after the last one the delivery is a dead letter. */
  maxAttempts: number
  /** Wait before the second attempt; doubled before each further one. */
  firstDelayMs: number
  maxDelayMs: number
  /** Waits before the second attempt, the third and so on, in place of doubled ones, at least one; the last one repeats. */
  delaysMs?: number[] | undefined
  /** How long after the event was stored another attempt still makes sense. Unlimited where it is left out. */
  maxAgeMs?: number | undefined
  /** HTTP statuses that end the delivery at once. */
  neverRetry: number[]
}

/** The longest wait that a policy may set: Postgres gets waits as integers of milliseconds. */
export const MAX_DELAY_MS = 14 * 86_400_000

/** 8 attempts over about 21 minutes; the schedule is printed in docs/handlers.md. */
export const defaultRetry: RetryPolicy = {
  maxAttempts: 8,
  firstDelayMs: 10_000,
  maxDelayMs: 6 * 3_600_000,
  neverRetry: [],
}

/** How long a destination may have us wait by Retry-After. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** The result of an attempt. A failure that is not `retryable` ends the delivery at once. */
export type AttemptResult =
  | { ok: true }
  | { ok: false; retryable: boolean; statusCode?: number | undefined; retryAfterMs?: number | undefined }

export type NextStep = { kind: 'succeeded' } | { kind: 'retry'; delayMs: number } | { kind: 'dead' }

/**
 * What follows attempt number `attempt` (the first is 1) of a delivery that is `ageMs` old. The wait doubles from
 * `firstDelayMs` up to `maxDelayMs`, or is the next of `delaysMs`, and is spread by 20 % either way, so that a handler that
 * recovers isn't hit by everything at once. Where the destination asked for a longer wait (Retry-After), it is that, up
 * to an hour.
 * @param random a number in [0, 1), as Math.random gives
 */
export function nextStep(
  policy: RetryPolicy,
  { attempt, ageMs }: { attempt: number; ageMs: number },
  result: AttemptResult,
  random: () => number,
): NextStep {
  if (result.ok) return { kind: 'succeeded' }
  const isFinal = result.statusCode !== undefined && policy.neverRetry.includes(result.statusCode)
  if (!result.retryable || isFinal || attempt >= policy.maxAttempts) return { kind: 'dead' }
  const spread = Math.round(baseDelayMs(policy, attempt) * (0.8 + 0.4 * random()))
  const delayMs = Math.max(spread, askedFor(result.retryAfterMs))
  if (policy.maxAgeMs !== undefined && ageMs + delayMs > policy.maxAgeMs) return { kind: 'dead' }
  return { kind: 'retry', delayMs }
}

/** A user's own function may ask for any wait, even for NaN. */
function askedFor(retryAfterMs = 0): number {
  const ms = Math.round(Math.min(retryAfterMs, MAX_RETRY_AFTER_MS))
  return Number.isNaN(ms) ? 0 : ms
}

function baseDelayMs({ firstDelayMs, maxDelayMs, delaysMs }: RetryPolicy, attempt: number): number {
  if (delaysMs !== undefined) return delaysMs[Math.min(attempt, delaysMs.length) - 1]!
  // 2 ** 1023 is the last finite power; the far end is Infinity and maxDelayMs wins.
  return Math.min(firstDelayMs * 2 ** (attempt - 1), maxDelayMs)
}
