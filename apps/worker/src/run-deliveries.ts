import { DeliveriesJob } from '@ringback/core/callback'
import type { Config, Handler } from '@ringback/core/config'
import { HandlerError } from '@ringback/core/handlers'
import type { HandledEvent, HandlerContext } from '@ringback/core/handlers'
import type { Logger } from '@ringback/core/log'
import type { QueueJob } from '@ringback/core/queue'
import { nextStep } from '@ringback/core/retry'
import type { NextStep } from '@ringback/core/retry'
import type { Sql } from '@ringback/core/store/connect'
import { runCode } from './handlers/code.ts'
import { runLog } from './handlers/log.ts'
import { parsePayload } from './parse-payload.ts'

export interface RunDependencies {
  sql: Sql
  config: Pick<Config, 'sources' | 'handlers'>
  random: () => number
  log: Logger
  /** Fires when the process is to end: deliveries that have not begun are left to the next worker. */
  signal: AbortSignal
}

/** Deliveries of one job that run at the same time, and are claimed and recorded together. */
const BATCH = 50

/** A `log` line takes no time worth limiting, but a lease needs an end. */
const DEFAULT_TIMEOUT_MS = 10_000
const LEASE_MARGIN_MS = 5000

/** A processor of deliveries jobs: one attempt of each delivery in the job, unless it was made already. */
export function createRunDeliveries(deps: RunDependencies): (job: QueueJob) => Promise<void> {
  const handlers = new Map(deps.config.handlers.map((handler) => [handler.name, handler]))

  return async (job) => {
    const { handler: name, deliveries } = DeliveriesJob.parse(job.data)
    const handler = handlers.get(name)
    // Another version of the configuration, perhaps: the scanner settles what stays without a handler.
    if (handler === undefined) return
    for (let at = 0; at < deliveries.length; at += BATCH) {
      if (deps.signal.aborted) return handBack(deps.sql, deliveries.slice(at))
      const claimed = await claim(deps.sql, handler, deliveries.slice(at, at + BATCH))
      const finished = await Promise.all(claimed.map((delivery) => attempt(deps, handler, delivery)))
      await record(deps.sql, finished)
    }
  }
}

/** A delivery whose attempt has begun, with its event. */
interface Claimed {
  id: string
  eventReceivedAt: string
  attempt: number
  attemptsAtReplay: number
  eventId: string
  source: string
  accountId: string
  callbackId: string
  type: string
  callId: string | null
  verifiedBy: HandledEvent['verifiedBy']
  occurredAt: Date
  receivedAt: Date
  payload: string
}

/**
 * Begins attempts: takes the deliveries that still wait for just this attempt. A job that comes twice, or late, finds
 * none. The bounds on the time of receipt keep the query within a partition or two.
 */
function claim(sql: Sql, handler: Handler, deliveries: DeliveriesJob['deliveries']): Promise<Claimed[]> {
  const times = deliveries.map(({ receivedAt }) => receivedAt).toSorted()
  const from = times[0]!
  const to = times.at(-1)!
  const leaseMs = timeoutMs(handler) + LEASE_MARGIN_MS
  return sql<Claimed[]>`
    with wanted as materialized (
      select id, attempt from json_to_recordset(${JSON.stringify(deliveries)}::json) as w (id uuid, attempt integer)
    ),
    claimed as (
      update deliveries as d
      set attempts = wanted.attempt, lease_until = now() + ${leaseMs} * interval '1 millisecond'
      from wanted
      where d.id = wanted.id
        and d.event_received_at between ${from}::text::timestamptz and ${to}::text::timestamptz
        and d.status = 'pending'
        and d.attempts = wanted.attempt - 1
      returning d.id, d.event_id, d.event_received_at, d.attempts, d.attempts_at_replay
    ),
    begun as (
      insert into attempts (delivery_id, event_received_at, number)
      select id, event_received_at, attempts from claimed
    )
    select
      c.id, c.event_received_at::text as "eventReceivedAt", c.attempts as attempt, c.attempts_at_replay as "attemptsAtReplay",
      e.id as "eventId", e.source, e.account_id as "accountId", e.callback_id as "callbackId", e.type, e.call_id as "callId",
      e.verified_by as "verifiedBy", e.occurred_at as "occurredAt", e.received_at as "receivedAt", e.payload::text as payload
    from claimed as c
    join events as e on e.id = c.event_id and e.received_at = c.event_received_at
    where e.received_at between ${from}::text::timestamptz and ${to}::text::timestamptz`
}

/** Leaves deliveries that have not begun to the scanner of any other worker, at once. */
async function handBack(sql: Sql, deliveries: DeliveriesJob['deliveries']): Promise<void> {
  await sql`
    update deliveries as d
    set lease_until = null
    from json_to_recordset(${JSON.stringify(deliveries)}::json) as w (id uuid, attempt integer, "receivedAt" timestamptz)
    where d.id = w.id and d.event_received_at = w."receivedAt" and d.status = 'pending' and d.attempts = w.attempt - 1`
}

/** An attempt that is over. */
interface Finished {
  id: string
  eventReceivedAt: string
  attempt: number
  durationMs: number
  error: string | undefined
  next: NextStep
}

async function attempt(deps: RunDependencies, handler: Handler, delivery: Claimed): Promise<Finished> {
  const startedAt = performance.now()
  const failure = await runHandler(deps, handler, delivery)
  const durationMs = Math.round(performance.now() - startedAt)
  const result = failure === undefined ? { ok: true as const } : { ok: false as const, retryable: failure.retryable }
  const next = nextStep(handler.retry, delivery.attempt - delivery.attemptsAtReplay, result, deps.random)
  deps.log[next.kind === 'dead' ? 'error' : next.kind === 'retry' ? 'warn' : 'info'](
    {
      eventId: delivery.eventId,
      deliveryId: delivery.id,
      handler: handler.name,
      attempt: delivery.attempt,
      maxAttempts: handler.retry.maxAttempts,
      outcome: result.ok ? 'succeeded' : 'failed',
      ...(failure !== undefined && { error: failure.message, next: next.kind }),
      ...(next.kind === 'retry' && { retryInMs: next.delayMs }),
      durationMs,
    },
    'attempt.finished',
  )
  const { id, eventReceivedAt } = delivery
  return { id, eventReceivedAt, attempt: delivery.attempt, durationMs, error: failure?.message, next }
}

/** Runs the handler once; undefined if it succeeded. */
async function runHandler(
  deps: RunDependencies,
  handler: Handler,
  delivery: Claimed,
): Promise<{ message: string; retryable: boolean } | undefined> {
  const { id, attempt: number, attemptsAtReplay, eventId, source, type } = delivery
  const context: HandlerContext = {
    signal: AbortSignal.timeout(timeoutMs(handler)),
    // A replay is meant to act again, so it has a key of its own.
    idempotencyKey: attemptsAtReplay === 0 ? id : `${id}-replay-${attemptsAtReplay}`,
    attempt: number,
    log: deps.log.child({ eventId, deliveryId: id, handler: handler.name, attempt: number }),
  }
  try {
    const payload = parsePayload(delivery.payload)
    const event: HandledEvent = {
      id: eventId,
      receivedAt: delivery.receivedAt,
      source,
      accountId: delivery.accountId,
      callbackId: delivery.callbackId,
      type,
      callId: delivery.callId,
      verifiedBy: delivery.verifiedBy,
      occurredAt: delivery.occurredAt,
      payload,
      details: deps.config.sources.get(source)?.details(type, payload),
    }
    await run(handler, event, context)
    return undefined
  } catch (error) {
    return {
      message: error instanceof Error ? error.message : String(error),
      retryable: !(error instanceof HandlerError) || error.retryable,
    }
  }
}

function run(handler: Handler, event: HandledEvent, context: HandlerContext): Promise<void> | void {
  switch (handler.run.kind) {
    case 'log':
      return runLog(handler.run, event, context)
    case 'code':
      return runCode(handler.run, event, context)
  }
}

function timeoutMs(handler: Handler): number {
  return handler.run.kind === 'code' ? handler.run.timeoutMs : DEFAULT_TIMEOUT_MS
}

/**
 * Ends attempts: the delivery succeeds, is scheduled again, or is dead. An attempt that outlived its lease, and was
 * abandoned in favour of a later one, changes nothing any more.
 */
async function record(sql: Sql, finished: Finished[]): Promise<void> {
  if (finished.length === 0) return
  const rows = finished.map(({ id, eventReceivedAt, attempt: number, durationMs, error, next }) => ({
    id,
    receivedAt: eventReceivedAt,
    number,
    durationMs,
    error: error === undefined ? null : storableError(error),
    outcome: next.kind === 'succeeded' ? 'succeeded' : 'failed',
    status: next.kind === 'retry' ? 'pending' : next.kind,
    delayMs: next.kind === 'retry' ? next.delayMs : null,
  }))
  await sql`
    with finished as materialized (
      select *
      from json_to_recordset(${JSON.stringify(rows)}::json) as f (
        id uuid, "receivedAt" timestamptz, number integer, "durationMs" integer, error text, outcome text, status text, "delayMs" integer
      )
    ),
    ended as (
      update attempts as a
      set outcome = f.outcome, duration_ms = f."durationMs", error = f.error
      from finished as f
      where a.delivery_id = f.id and a.number = f.number and a.event_received_at = f."receivedAt" and a.outcome is null
      returning a.delivery_id, a.number
    )
    update deliveries as d
    set
      status = f.status,
      next_attempt_at = now() + f."delayMs" * interval '1 millisecond',
      lease_until = null,
      finished_at = case when f.status <> 'pending' then now() end,
      last_error = f.error
    from finished as f
    join ended on ended.delivery_id = f.id and ended.number = f.number
    where d.id = f.id and d.event_received_at = f."receivedAt" and d.attempts = f.number and d.status = 'pending'`
}

const MAX_ERROR_LENGTH = 2000

function storableError(message: string): string {
  return message.slice(0, MAX_ERROR_LENGTH).replaceAll('\u0000', '\ufffd').toWellFormed()
}
