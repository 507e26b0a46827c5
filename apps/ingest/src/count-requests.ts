import type { QueuedCounts } from '@ringback/core/callback'
import { emptyHistogram, observe } from '@ringback/core/histogram'
import type { Counts } from './counts.ts'
import type { Outcome } from './receive-request.ts'

/** One request that has its answer. */
export interface AnsweredRequest {
  /** The source's name in the URL; there may be no such source. */
  source: string
  outcome: Outcome['kind']
  /** From the request's headers to its answer. */
  durationMs: number
}

/** Outcomes that come from what the sender sent. The other failures are Ringback's own, or a connection that broke. */
const REFUSALS = new Set<Outcome['kind']>(['forged', 'unreadable', 'too_large', 'method_not_allowed'])

/** Counts requests by source and minute. Those whose URL names no source are counted under '': anybody could make up names. */
export function createCountRequests(
  counts: Pick<Counts<QueuedCounts>, 'entry'>,
  now: () => number,
): (request: AnsweredRequest) => void {
  return ({ source: name, outcome, durationMs }) => {
    const source = outcome === 'unknown_source' ? '' : name
    const at = now()
    const minute = at - (at % 60_000)
    const entry = counts.entry(`${minute} ${source}`, () => ({
      minute: new Date(minute).toISOString(),
      source,
      outcomes: {},
      ackMs: emptyHistogram(),
      refusedInARow: 0,
    }))
    if (entry === undefined) return
    entry.outcomes[outcome] = (entry.outcomes[outcome] ?? 0) + 1
    observe(entry.ackMs, durationMs)
    if (outcome === 'accepted') {
      entry.lastAcceptedAt = at
      entry.refusedInARow = 0
      delete entry.refusedSince
    } else if (REFUSALS.has(outcome)) {
      entry.refusedInARow += 1
      entry.refusedSince ??= at
      entry.lastRefusedAt = at
    }
  }
}
