import type { DeliveriesJob } from '@ringback/core/callback'
import type { AttemptReport, HandledEvent } from '@ringback/core/handlers'
import type { NextStep } from '@ringback/core/retry'
import { uuidArray } from '@ringback/core/store/connect'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { storableText } from '@ringback/core/storable-text'

// The tables `deliveries` and `attempts`: how the attempts of a job begin and end in them.

/** A delivery with the number of the attempt to make, as a job carries it. */
export type QueuedDelivery = DeliveriesJob['deliveries'][number]

/** A delivery whose attempt has begun, with its event. */
export interface Claimed {
  id: string
  eventReceivedAt: string
  attempt: number
  /** By the database's clock. */
  startedAt: Date
  /** As the row has it; it changes when the delivery gets into another hand. */
  leaseUntil: string
  attemptsAtReplay: number
  /** Time since the delivery was created. */
  ageMs: number
  eventId: string
  source: string
  accountId: string
  callbackId: string
  type: string
  callId: string | null
  verifiedBy: HandledEvent['verifiedBy']
  occurredAt: Date
  receivedAt: Date
  /** Null if it is too long as text. */
  payload: string | null
  /** The traceparent of the request that the event came with, if it had a span. */
  traceparent: string | null
  /** These four only if the request was asked for. */
  method?: string
  url?: string
  headers?: string
  raw?: Buffer
}

export interface ClaimOptions {
  /** How long the lease lasts. If nothing is heard of the attempt by then, another is made. */
  leaseMs: number
  /** Whether attempts under way are counted, because the handler limits them. */
  isCounted: boolean
  /** Whether to read the stored request too, which costs more. */
  needsRequest: boolean
}

/**
 * Begins attempts: takes the deliveries that still wait for just this attempt. A job that comes twice, or late, finds
 * none. The bounds on the time of receipt keep the query within a partition or two.
 *
 * Here and below the ids are given a second time, as an array, and "pending" is tested by next_attempt_at, which a
 * constraint makes equivalent. Otherwise a plan that was cached while the tables were small would read a whole index.
 */
export function claimDeliveries(
  sql: Sql | TransactionSql,
  deliveries: QueuedDelivery[],
  { leaseMs, isCounted, needsRequest }: ClaimOptions,
): Promise<Claimed[]> {
  const { from, to } = bounds(deliveries.map(({ receivedAt }) => receivedAt))
  return sql<Claimed[]>`
    with wanted as materialized (
      select id, attempt from json_to_recordset(${JSON.stringify(deliveries)}::json) as w (id uuid, attempt integer)
    ),
    claimed as (
      update deliveries as d
      set
        attempts = wanted.attempt, lease_until = clock_timestamp() + ${leaseMs} * interval '1 millisecond',
        running = ${isCounted}
      from wanted
      where d.id = wanted.id
        and d.id = any(${uuidArray(deliveries)}::text::uuid[])
        and d.event_received_at between ${from}::text::timestamptz and ${to}::text::timestamptz
        and d.next_attempt_at is not null
        and d.attempts = wanted.attempt - 1
      returning d.id, d.event_id, d.event_received_at, d.attempts, d.attempts_at_replay, d.created_at, d.lease_until
    ),
    begun as (
      insert into attempts (delivery_id, event_received_at, number)
      select id, event_received_at, attempts from claimed
    )
    select
      c.id, c.event_received_at::text as "eventReceivedAt", c.attempts as attempt,
      clock_timestamp() as "startedAt", c.lease_until::text as "leaseUntil", c.attempts_at_replay as "attemptsAtReplay",
      (extract(epoch from now() - c.created_at) * 1000)::float8 as "ageMs",
      e.id as "eventId", e.source, e.account_id as "accountId", e.callback_id as "callbackId", e.type, e.call_id as "callId",
      e.verified_by as "verifiedBy", e.occurred_at as "occurredAt", e.received_at as "receivedAt",
      payload_text(e.payload) as payload, e.traceparent
      ${needsRequest ? sql`, e.method, e.url, e.headers::text as headers, e.raw` : sql``}
    from claimed as c
    join events as e on e.id = c.event_id and e.received_at = c.event_received_at
    where e.received_at between ${from}::text::timestamptz and ${to}::text::timestamptz`
}

/** The first and the last of times as Postgres writes them, whose order is that of their texts. */
function bounds(times: string[]): { from: string; to: string } {
  const sorted = times.toSorted()
  return { from: sorted[0]!, to: sorted.at(-1)! }
}

/** Leases attempts that have begun anew. Resolves to those that are still in the same hand. */
export async function renewLeases(sql: Sql, claimed: Claimed[], leaseMs: number): Promise<Claimed[]> {
  const rows = claimed.map(({ id, eventReceivedAt, leaseUntil }) => ({ id, receivedAt: eventReceivedAt, leaseUntil }))
  const renewed = await sql<{ id: string; leaseUntil: string }[]>`
    update deliveries as d
    set lease_until = clock_timestamp() + ${leaseMs} * interval '1 millisecond'
    from json_to_recordset(${JSON.stringify(rows)}::json) as c (id uuid, "receivedAt" timestamptz, "leaseUntil" timestamptz)
    where d.id = c.id and d.event_received_at = c."receivedAt" and d.id = any(${uuidArray(claimed)}::text::uuid[])
      and d.lease_until = c."leaseUntil"
    returning d.id, d.lease_until::text as "leaseUntil"`
  const leases = new Map(renewed.map(({ id, leaseUntil }) => [id, leaseUntil]))
  return claimed.flatMap((delivery) => {
    const leaseUntil = leases.get(delivery.id)
    return leaseUntil === undefined ? [] : [{ ...delivery, leaseUntil }]
  })
}

/** Leaves deliveries that have not begun to the scanner of any worker, from `waitMs` on. No attempt is used up. */
export async function deferDeliveries(
  sql: Sql | TransactionSql,
  deliveries: QueuedDelivery[],
  waitMs: number,
): Promise<void> {
  await sql`
    update deliveries as d
    set lease_until = null, next_attempt_at = greatest(d.next_attempt_at, now() + ${waitMs} * interval '1 millisecond')
    from json_to_recordset(${JSON.stringify(deliveries)}::json) as w (id uuid, attempt integer, "receivedAt" timestamptz)
    where d.id = w.id and d.event_received_at = w."receivedAt" and d.id = any(${uuidArray(deliveries)}::text::uuid[])
      and d.next_attempt_at is not null and d.attempts = w.attempt - 1`
}

const MAX_TEXT_LENGTH = 2000

/** What is kept of a text that an attempt leaves for people: its beginning, as Postgres takes it. */
export function keptText(text: string | null | undefined): string | null {
  return typeof text === 'string' ? storableText(text, MAX_TEXT_LENGTH) : null
}

/** An attempt that is over. */
export interface EndedAttempt extends AttemptReport {
  id: string
  eventReceivedAt: string
  attempt: number
  durationMs: number
  ok: boolean
  error: string | undefined
  next: NextStep
}

/**
 * Ends attempts: the delivery succeeds, is scheduled again, or is dead. An attempt that outlived its lease, and was
 * abandoned in favour of a later one, changes nothing any more, and neither does one that was recorded before. Resolves to the
 * others.
 */
export async function recordAttempts<Attempt extends EndedAttempt>(
  sql: Sql | TransactionSql,
  finished: Attempt[],
): Promise<Attempt[]> {
  const rows = finished.map(
    ({ id, eventReceivedAt, attempt: number, durationMs, ok, error, statusCode, response, next }) => ({
      id,
      receivedAt: eventReceivedAt,
      number,
      durationMs,
      error: keptText(error),
      statusCode: statusCode ?? null,
      response: keptText(response),
      outcome: ok ? 'succeeded' : 'failed',
      status: next.kind === 'retry' ? 'pending' : next.kind,
      delayMs: next.kind === 'retry' ? next.delayMs : null,
    }),
  )
  const { from, to } = bounds(finished.map(({ eventReceivedAt }) => eventReceivedAt))
  const ended = await sql<{ id: string }[]>`
    with finished as materialized (
      select *
      from json_to_recordset(${JSON.stringify(rows)}::json) as f (
        id uuid, "receivedAt" timestamptz, number integer, "durationMs" integer, error text, "statusCode" integer,
        response text, outcome text, status text, "delayMs" integer
      )
    ),
    ended as (
      update attempts as a
      set
        outcome = f.outcome, duration_ms = f."durationMs", error = f.error, status_code = f."statusCode",
        response = f.response
      from finished as f
      where a.delivery_id = f.id and a.delivery_id = any(${uuidArray(finished)}::text::uuid[]) and a.number = f.number
        and a.event_received_at = f."receivedAt" and a.event_received_at between ${from}::text::timestamptz and ${to}::text::timestamptz
        and a.outcome is null
      returning a.delivery_id, a.number
    )
    update deliveries as d
    set
      status = f.status,
      next_attempt_at = now() + f."delayMs" * interval '1 millisecond',
      lease_until = null,
      running = false,
      finished_at = case when f.status <> 'pending' then now() end,
      last_error = f.error
    from finished as f
    join ended on ended.delivery_id = f.id and ended.number = f.number
    where d.id = f.id and d.event_received_at = f."receivedAt"
      and d.event_received_at between ${from}::text::timestamptz and ${to}::text::timestamptz
      and d.attempts = f.number and d.next_attempt_at is not null
    returning d.id`
  const ids = new Set(ended.map(({ id }) => id))
  return finished.filter(({ id }) => ids.has(id))
}
