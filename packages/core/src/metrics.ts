import { Registry, collectDefaultMetrics } from 'prom-client'
import { withTimeout } from './with-timeout.ts'

// Prometheus metrics: each process makes one registry and passes it on. `ringback_` begins the names of Ringback's own; those
// of Node and of the process have the names that every Node process gives them.

export { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** A registry with what Node tells of its process. */
export function createRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  return registry
}

/** Seconds: from a callback's way through an idle Ringback to what waited for an outage. */
export const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]

/**
 * Asks `read` at most once a second, and waits no longer than a second for it: a scrape is answered whatever is down, and
 * costs the same however often it comes. Undefined where there is no answer.
 */
export function readForScrape<Value>(read: () => Promise<Value>): () => Promise<Value | undefined> {
  let last: { at: number; value: Promise<Value | undefined> } | undefined
  return () => {
    const now = performance.now()
    if (last === undefined || now - last.at > 1000) {
      last = { at: now, value: withTimeout(read(), 1000, 'no answer').catch(() => undefined) }
    }
    return last.value
  }
}
