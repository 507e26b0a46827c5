import { Counter, Gauge, Histogram, readForScrape, SECONDS } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import type { SpoolUsage } from '@ringback/core/spool'
import type { AnsweredRequest } from './count-requests.ts'
import type { Outcome } from './receive-request.ts'

/** What ingest reports to its metrics. */
export interface IngestMetrics {
  onAnswered: (request: AnsweredRequest) => void
  onRefused: (source: string, reason: string) => void
  /** A group of `size` callbacks and refusals has become durable. */
  onGroup: (size: number) => void
  /** A canary has become durable. */
  onCanary: () => void
}

/** All outcomes of a request whose source is known. The type check fails if one is missing. */
const OUTCOMES = Object.keys({
  accepted: 0,
  forged: 0,
  unreadable: 0,
  too_large: 0,
  method_not_allowed: 0,
  not_durable: 0,
  overloaded: 0,
  client_gone: 0,
} satisfies Record<Exclude<Outcome['kind'], 'unknown_source'>, 0>) as Outcome['kind'][]

/**
 * Registers ingest's metrics. Labels are names from the configuration and Ringback's own words, never a text from a request:
 * an unknown `source` counts as ''. Requests of `sources` begin at 0, because Prometheus does not take the first value of a
 * series for an increase.
 * @param onScrape called before the metrics are read, to report what has not been reported yet
 */
export function createIngestMetrics(
  registry: Registry,
  sources: Iterable<string>,
  onScrape: () => void,
): IngestMetrics {
  const registers = [registry]
  const requests = new Counter({
    name: 'ringback_ingest_requests_total',
    help: 'Requests that have their answer. source is empty where the URL names none.',
    labelNames: ['source', 'outcome'] as const,
    registers,
    // This metric is registered first, so the others are read after `onScrape`.
    collect: onScrape,
  })
  const durations = new Histogram({
    name: 'ringback_ingest_ack_duration_seconds',
    help: 'From the headers of an accepted request to its answer.',
    labelNames: ['source'] as const,
    buckets: SECONDS.filter((seconds) => seconds <= 5),
    registers,
  })
  const refusals = new Counter({
    name: 'ringback_ingest_refusals_total',
    help: 'Requests and callbacks that were refused, by the reason that quarantine has.',
    labelNames: ['source', 'reason'] as const,
    registers,
  })
  const groups = new Histogram({
    name: 'ringback_ingest_group_size',
    help: 'Callbacks and refusals that became durable with one job.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 500],
    registers,
  })
  const canaries = new Counter({
    name: 'ringback_canary_sent_total',
    help: 'Canaries that became durable like callbacks. None is sent while the queue is down.',
    registers,
  })
  for (const source of sources) for (const outcome of OUTCOMES) requests.inc({ source, outcome }, 0)
  requests.inc({ source: '', outcome: 'unknown_source' }, 0)
  const counters = new Map<string, Map<Outcome['kind'], { inc: () => void }>>()
  const histograms = new Map<string, { observe: (seconds: number) => void }>()

  function counter(source: string, outcome: Outcome['kind']): { inc: () => void } {
    const own = counters.getOrInsertComputed(source, () => new Map())
    return own.getOrInsertComputed(outcome, () => requests.labels({ source, outcome }))
  }

  return {
    onAnswered({ source, outcome, durationMs }) {
      counter(outcome === 'unknown_source' ? '' : source, outcome).inc()
      if (outcome !== 'accepted') return
      histograms.getOrInsertComputed(source, () => durations.labels({ source })).observe(durationMs / 1000)
    },
    onRefused: (source, reason) => refusals.inc({ source, reason }),
    onGroup: (size) => groups.observe(size),
    onCanary: () => canaries.inc(),
  }
}

/** Registers how full the queue's server is, which matters most while no worker is there to say so. */
export function createQueueMetrics(registry: Registry, memoryUsage: () => Promise<number>): void {
  const read = readForScrape(memoryUsage)
  const ratio: Gauge = new Gauge({
    name: 'ringback_queue_memory_usage_ratio',
    help: 'The part of its maxmemory that the queue’s Redis uses, from 0 to 1; 0 where there is no limit, none while it is down.',
    registers: [registry],
    async collect() {
      const usage = await read()
      ratio.remove()
      if (usage !== undefined) ratio.set(usage)
    },
  })
}

/** Registers metrics of what waits in this ingest's own spool. */
export function createSpoolMetrics(registry: Registry, usage: () => SpoolUsage): void {
  const gauge = (name: string, help: string, read: (usage: SpoolUsage) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read(usage()))
      },
    })
  gauge('ringback_spool_groups', 'Groups that wait on this ingest’s disk for the queue.', ({ groups }) => groups)
  gauge('ringback_spool_bytes', 'Bytes that this ingest’s spool takes on its disk.', ({ bytes }) => bytes)
  gauge('ringback_spool_oldest_age_seconds', 'For how long the oldest of them has waited.', ({ oldestAt }) =>
    oldestAt === undefined ? 0 : Math.max(0, (Date.now() - oldestAt) / 1000),
  )
}
