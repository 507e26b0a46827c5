import type { BreakerPolicy, Limits } from '@ringback/core/handlers'

// Whether deliveries to a destination may begin now: pure functions over a row of the table `destinations`.

/** A row of `destinations`. Times are those of the database. */
export interface Destination {
  state: 'closed' | 'open' | 'half_open' | 'disabled'
  stateSince: Date
  openUntil: Date | null
  openings: number
  windowStartedAt: Date
  windowAttempts: number
  windowFailures: number
  consecutiveFailures: number
  tokens: number | null
  tokensAt: Date
}

/** How many deliveries may begin, and how long the others are to wait. */
export interface Admission {
  count: number
  waitMs: number
  /** The row as it is once they have begun. */
  destination: Destination
}

/** How long deliveries wait when the concurrency is used up: attempts under way end soon. */
const BUSY_WAIT_MS = 500
/** How long deliveries wait for a disabled destination: long, so that it costs nothing. Enabling it makes them due. */
const DISABLED_WAIT_MS = 3_600_000
/** How long a trial may take. After that its worker is taken for dead, and another trial is made. */
const TRIAL_MS = 60_000
/** How long deliveries wait at most while a trial runs: most trials end sooner than they may. */
const TRIAL_WAIT_MS = 1000
const MAX_OPENING_FACTOR = 16

/**
 * How many of `wanted` deliveries may begin at `now`, with `running` under way. A single one, the trial, tries whether an
 * open breaker can close; the others use up no attempt meanwhile.
 */
export function admit(
  limits: Limits,
  stored: Destination,
  { wanted, running, now }: { wanted: number; running: number; now: Date },
): Admission {
  const destination = withoutFuture(stored, now)
  const { state, openUntil } = destination
  if (state === 'disabled') return { count: 0, waitMs: DISABLED_WAIT_MS, destination }
  const isTrial = state !== 'closed'
  if (isTrial && openUntil !== null && openUntil > now) {
    const remainingMs = openUntil.getTime() - now.getTime()
    return { count: 0, waitMs: state === 'open' ? remainingMs : Math.min(remainingMs, TRIAL_WAIT_MS), destination }
  }
  const rate = takeTokens(limits.perSecond, destination, now)
  const free = limits.concurrency === undefined ? wanted : Math.max(0, limits.concurrency - running)
  const count = Math.min(isTrial ? 1 : wanted, free, Math.floor(rate.available))
  const waitMs = rate.available < 1 ? rate.waitMs : BUSY_WAIT_MS
  return {
    count,
    waitMs,
    destination: {
      ...destination,
      ...(limits.perSecond !== undefined && { tokens: rate.available - count, tokensAt: now }),
      ...(isTrial &&
        count > 0 && {
          state: 'half_open' as const,
          stateSince: state === 'half_open' ? destination.stateSince : now,
          openUntil: new Date(now.getTime() + TRIAL_MS),
        }),
    },
  }
}

/**
 * The row with now in the place of times in the future. The clock was set back after they were stored, and waiting for them
 * could take as long as it was set back by: an open breaker makes a trial instead, and the rate lets one delivery begin.
 */
function withoutFuture(destination: Destination, now: Date): Destination {
  const { stateSince, openUntil, windowStartedAt, tokens, tokensAt } = destination
  const past = (time: Date) => (time > now ? now : time)
  return {
    ...destination,
    stateSince: past(stateSince),
    openUntil: stateSince > now && openUntil !== null ? now : openUntil,
    windowStartedAt: past(windowStartedAt),
    tokens: tokensAt > now && tokens !== null ? Math.max(1, tokens) : tokens,
    tokensAt: past(tokensAt),
  }
}

/** A token bucket that fills at the rate and holds one second's worth. */
function takeTokens(
  perSecond: number | undefined,
  { tokens, tokensAt }: Destination,
  now: Date,
): { available: number; waitMs: number } {
  if (perSecond === undefined) return { available: Infinity, waitMs: 0 }
  const capacity = Math.max(1, perSecond)
  const elapsedMs = now.getTime() - tokensAt.getTime()
  const available = Math.min(capacity, (tokens ?? capacity) + (elapsedMs * perSecond) / 1000)
  return { available, waitMs: Math.ceil(((1 - available) * 1000) / perSecond) }
}

/** How an attempt ended. */
export interface Outcome {
  ok: boolean
  startedAt: Date
  /** Whether the destination answered that it is gone for good. */
  isGone: boolean
  /** Whether it failed because of its event, which says nothing about the destination. */
  isOfEvent: boolean
}

/**
 * The row after attempts have ended, in their order. Only those that began in the present state count for it: an attempt
 * that has hung since before the breaker opened says nothing about a trial. Nor do those count that failed because of their
 * event.
 */
export function settle(
  breaker: BreakerPolicy | false,
  stored: Destination,
  attempts: readonly Outcome[],
  now: Date,
): Destination {
  const before = withoutFuture(stored, now)
  const ofThisState = attempts.filter(({ startedAt }) => startedAt >= before.stateSince)
  const heeded = ofThisState.filter(({ isOfEvent }) => !isOfEvent)
  const isNewWindow = breaker !== false && now.getTime() - before.windowStartedAt.getTime() > breaker.windowMs
  const lastSuccess = attempts.findLastIndex(({ ok }) => ok)
  const counted: Destination = {
    ...before,
    windowStartedAt: isNewWindow ? now : before.windowStartedAt,
    windowAttempts: (isNewWindow ? 0 : before.windowAttempts) + heeded.length,
    windowFailures: (isNewWindow ? 0 : before.windowFailures) + heeded.filter(({ ok }) => !ok).length,
    consecutiveFailures:
      lastSuccess === -1 ? before.consecutiveFailures + attempts.length : attempts.length - 1 - lastSuccess,
  }
  if (heeded.some(({ isGone }) => isGone)) {
    const stateSince = before.state === 'disabled' ? before.stateSince : now
    return { ...counted, state: 'disabled', stateSince, openUntil: null }
  }
  if (breaker === false) return counted
  const last = heeded.at(-1)
  if (before.state === 'half_open' && last !== undefined) {
    return last.ok ? closed(counted, now) : opened(breaker, counted, now)
  }
  // The trial has told nothing, so another may begin.
  if (before.state === 'half_open' && ofThisState.length > 0) return { ...counted, openUntil: now }
  const share = counted.windowFailures / counted.windowAttempts
  const isFailing = counted.windowAttempts >= breaker.minAttempts && share >= breaker.failureShare
  return before.state === 'closed' && isFailing ? opened(breaker, counted, now) : counted
}

function opened(breaker: BreakerPolicy, destination: Destination, now: Date): Destination {
  const openMs = breaker.openMs * Math.min(2 ** destination.openings, MAX_OPENING_FACTOR)
  return {
    ...destination,
    state: 'open',
    stateSince: now,
    openUntil: new Date(now.getTime() + openMs),
    openings: destination.openings + 1,
  }
}

function closed(destination: Destination, now: Date): Destination {
  return {
    ...destination,
    state: 'closed',
    stateSince: now,
    openUntil: null,
    openings: 0,
    windowStartedAt: now,
    windowAttempts: 0,
    windowFailures: 0,
  }
}
