import { Counter, Gauge, Histogram, readForScrape, SECONDS } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import type { QueueState } from '@ringback/core/queue'
import { textList } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { addCanaryAge } from './canary.ts'
import type { Destination } from './destination.ts'
import type { CountedAttempt } from './run-attempt.ts'

/** The outcome of one transaction with groups. */
export interface StoredGroups {
  stored: number
  duplicates: number
  /** The reason of each item that went to quarantine. */
  quarantined: string[]
  /** How long the transaction took, waits for Postgres included. */
  durationMs: number
  /** Time since the receipt of the oldest callback; undefined if there is none. */
  ageMs: number | undefined
}

export interface WorkerMetrics {
  onStored: (groups: StoredGroups) => void
  onAttempt: (attempt: CountedAttempt) => void
  onPostponed: (reason: string) => void
  /** Deliveries became dead letters otherwise than by an attempt that ended. */
  onDead: (handler: string, count: number) => void
}

/** How far pending deliveries of a handler are counted: a scrape costs the same however many there are. */
const MAX_PENDING_COUNTED = 10_000

const STATES: readonly Destination['state'][] = ['closed', 'open', 'half_open', 'disabled']

/**
 * Registers the worker's metrics. Labels are names from the configuration and Ringback's own words, never from a callback.
 * Counters of each handler begin at 0, because Prometheus does not take the first value of a series for an increase.
 */
export function createWorkerMetrics(
  registry: Registry,
  { sql, queues, handlers }: { sql: Sql; queues: Record<string, () => Promise<QueueState>>; handlers: string[] },
): WorkerMetrics {
  const registers = [registry]
  const storeSeconds = new Histogram({
    name: 'ringback_worker_store_duration_seconds',
    help: 'Until a transaction with one or several groups was done, waits for Postgres included.',
    buckets: SECONDS,
    registers,
  })
  const endToEnd = new Histogram({
    name: 'ringback_received_to_stored_seconds',
    help: 'From the receipt of the oldest callback of a transaction until it was stored.',
    buckets: SECONDS,
    registers,
  })
  const events = new Counter({ name: 'ringback_events_stored_total', help: 'Callbacks that were new.', registers })
  const duplicates = new Counter({
    name: 'ringback_duplicates_total',
    help: 'Callbacks that had been stored before.',
    registers,
  })
  const quarantined = new Counter({
    name: 'ringback_quarantined_total',
    help: 'Requests and callbacks that went to quarantine.',
    labelNames: ['reason'] as const,
    registers,
  })
  const postponed = new Counter({
    name: 'ringback_groups_postponed_total',
    help: 'Groups that went back to the queue for a while; reason is unreadable or not_stored.',
    labelNames: ['reason'] as const,
    registers,
  })
  const attempts = new Counter({
    name: 'ringback_delivery_attempts_total',
    help: 'Attempts that are over; outcome is succeeded or failed.',
    labelNames: ['handler', 'outcome'] as const,
    registers,
  })
  const deliveries = new Counter({
    name: 'ringback_deliveries_total',
    help: 'Deliveries that have come to an end; status is succeeded or dead.',
    labelNames: ['handler', 'status'] as const,
    registers,
  })
  const attemptSeconds = new Histogram({
    name: 'ringback_delivery_attempt_duration_seconds',
    help: 'How long attempts took.',
    labelNames: ['handler'] as const,
    buckets: SECONDS,
    registers,
  })
  for (const handler of handlers) {
    for (const outcome of ['succeeded', 'failed']) attempts.inc({ handler, outcome }, 0)
    for (const status of ['succeeded', 'dead']) deliveries.inc({ handler, status }, 0)
  }
  for (const reason of ['unreadable', 'not_stored']) postponed.inc({ reason }, 0)
  addDestinationStates(registry, sql, handlers)
  addPendingDeliveries(registry, sql, handlers)
  addQueueStates(registry, queues)
  addCanaryAge(registry, sql)

  return {
    onStored({ stored, duplicates: again, quarantined: reasons, durationMs, ageMs }) {
      storeSeconds.observe(durationMs / 1000)
      if (ageMs !== undefined) endToEnd.observe(ageMs / 1000)
      events.inc(stored)
      duplicates.inc(again)
      for (const reason of reasons) quarantined.inc({ reason })
    },
    onPostponed: (reason) => postponed.inc({ reason }),
    onDead: (handler, count) => deliveries.inc({ handler, status: 'dead' }, count),
    onAttempt({ handler, ok, durationMs, next }) {
      attempts.inc({ handler, outcome: ok ? 'succeeded' : 'failed' })
      attemptSeconds.observe({ handler }, durationMs / 1000)
      if (next.kind !== 'retry') deliveries.inc({ handler, status: next.kind })
    },
  }
}

/** A gauge whose values are read for each scrape. */
interface ReadGauge<Row, Label extends string> {
  name: string
  help: string
  labelNames: Label[]
  /** Resolves to undefined while there is no answer: then the gauge has no values. */
  read: () => Promise<readonly Row[] | undefined>
  valuesOf: (row: Row) => [labels: Record<Label, string>, value: number][]
}

function addGauge<Row, Label extends string>(
  registry: Registry,
  { read, valuesOf, ...gauge }: ReadGauge<Row, Label>,
): void {
  registry.registerMetric(
    new Gauge({
      ...gauge,
      registers: [],
      async collect() {
        const rows = await read()
        this.reset()
        for (const [labels, value] of (rows ?? []).flatMap(valuesOf)) this.set(labels, value)
      },
    }),
  )
}

function addDestinationStates(registry: Registry, sql: Sql, handlers: string[]): void {
  const read = readForScrape(
    () =>
      sql<{ handler: string; state: Destination['state']; limited: boolean; failures: number }[]>`
        select handler, state, limited, consecutive_failures as failures from destinations
        where handler in ${textList(sql, handlers)}`,
  )
  addGauge(registry, {
    name: 'ringback_destination_state',
    help: '1 for the state that the destination of a configured handler with limits is in, 0 for the others. None while Postgres is down.',
    labelNames: ['handler', 'state'],
    read,
    valuesOf: ({ handler, limited, state: own }) =>
      limited ? STATES.map((state) => [{ handler, state }, state === own ? 1 : 0]) : [],
  })
  addGauge(registry, {
    name: 'ringback_destination_consecutive_failures',
    help: 'How many attempts of a configured handler have failed in a row, over all workers. None while Postgres is down.',
    labelNames: ['handler'],
    read,
    valuesOf: ({ handler, failures }) => [[{ handler }, failures]],
  })
}

function addPendingDeliveries(registry: Registry, sql: Sql, handlers: string[]): void {
  const read = readForScrape(
    () =>
      sql<{ handler: string; pending: number; oldestDueAgeSeconds: number }[]>`
        select
          handler.value as handler,
          (
            select count(*)::integer
            from (
              select from deliveries as d
              where d.handler = handler.value and status = 'pending'
              limit ${MAX_PENDING_COUNTED}
            ) as counted
          ) as pending,
          -- The clock of the database, which has set these times.
          greatest(0, extract(epoch from now() - (
            select min(next_attempt_at) from deliveries as d where d.handler = handler.value and status = 'pending'
          )))::float8 as "oldestDueAgeSeconds"
        from json_array_elements_text(${JSON.stringify(handlers)}::json) as handler`,
  )
  addGauge(registry, {
    name: 'ringback_deliveries_pending',
    help: `Deliveries of a configured handler that have not ended, up to ${MAX_PENDING_COUNTED}. None while Postgres is down.`,
    labelNames: ['handler'],
    read,
    valuesOf: ({ handler, pending }) => [[{ handler }, pending]],
  })
  addGauge(registry, {
    name: 'ringback_deliveries_oldest_due_age_seconds',
    help: 'For how long the longest-waiting of them has been due; 0 where none is. None while Postgres is down.',
    labelNames: ['handler'],
    read,
    valuesOf: ({ handler, oldestDueAgeSeconds }) => [[{ handler }, oldestDueAgeSeconds]],
  })
}

function addQueueStates(registry: Registry, queues: Record<string, () => Promise<QueueState>>): void {
  const own = Object.entries(queues).map(([queue, state]) => ({ queue, readState: readForScrape(state) }))
  const read = async () => {
    const states = await Promise.all(own.map(async ({ queue, readState }) => ({ queue, state: await readState() })))
    return states.flatMap(({ queue, state }) => (state === undefined ? [] : [{ queue, ...state }]))
  }
  addGauge(registry, {
    name: 'ringback_queue_jobs',
    help: 'Jobs of a queue that wait or are being processed, over all workers. None while the queue is down.',
    labelNames: ['queue', 'state'],
    read,
    valuesOf: ({ queue, waiting, active }) => [
      [{ queue, state: 'waiting' }, waiting],
      [{ queue, state: 'active' }, active],
    ],
  })
  addGauge(registry, {
    name: 'ringback_queue_oldest_job_age_seconds',
    help: 'How long the oldest waiting job of a queue has waited; 0 where none waits, none while the queue is down.',
    labelNames: ['queue'],
    read,
    valuesOf: ({ queue, oldestAgeMs }) => [[{ queue }, oldestAgeMs / 1000]],
  })
}
