import { Registry, collectDefaultMetrics } from 'prom-client'
import { withTimeout } from './with-timeout.ts'

// Prometheus metrics: each process makes one registry and passes it on. The names of Ringback's own metrics begin with
// `ringback_`; those of Node and of the process have prom-client's usual names.

export { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** A registry with prom-client's default metrics of Node and of the process. */
export function createRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  return registry
}

/** Upper bounds of buckets, in seconds: from a callback in an idle Ringback to one that waited for an outage to end. */
export const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]

/**
 * Makes a function that calls `read` at most once a second and waits for it at most a second: a scrape is answered whatever
 * is down, and costs the same however often it comes. It resolves to undefined if there was no answer.
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
