import { Registry, collectDefaultMetrics } from 'prom-client'

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
 * Asks `read` at most once a second and waits for it no longer than `timeoutMs`: whatever is down, a scrape is answered, and
 * however often it is scraped, it costs the same. Undefined where there is no answer.
 */
export function readForScrape<Value>(read: () => Promise<Value>, timeoutMs = 1000): () => Promise<Value | undefined> {
  let last: { at: number; value: Promise<Value | undefined> } | undefined
  return () => {
    const now = performance.now()
    if (last === undefined || now - last.at > 1000) last = { at: now, value: withinTime(read, timeoutMs) }
    return last.value
  }
}

async function withinTime<Value>(read: () => Promise<Value>, timeoutMs: number): Promise<Value | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, timeoutMs, undefined)
  try {
    return await Promise.race([read().catch(() => undefined), late])
  } finally {
    clearTimeout(timer)
  }
}
