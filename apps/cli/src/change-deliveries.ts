import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { fromDeliveries } from './delivery-filter.ts'
import type { DeliveryFilter, Status } from './delivery-filter.ts'

// Retries and cancels any number of deliveries, while workers run and perhaps a second operator does the same. That makes no
// delivery run twice: one that has a live lease, or is being changed at this moment, is left alone. So is one of which an
// attempt began after we did, because somebody else has run it already.

export type Change = 'retry' | 'cancel'

export interface ChangeOptions {
  /** Only those in one of these states. */
  statuses: readonly Status[]
  /** Only ids after this one: where a run before stopped. */
  after?: string | undefined
  /** How many are changed in a second. */
  rate?: number | undefined
  /** Ends the run after the deliveries in hand. */
  signal: AbortSignal
  progress: (lookedAt: number) => void
}

/** How many deliveries there are to change. */
export interface Counted {
  total: number
  byStatus: Partial<Record<Status, number>>
  /** How many of them a worker has in hand. */
  inHand: number
}

/** What became of the deliveries. */
export interface Changed {
  /** By the state that they were in. */
  changed: Partial<Record<Status, number>>
  /** Left alone because a worker or another run has them in hand. */
  inHand: number
  /** Left alone because of their state. */
  otherStatus: Partial<Record<Status, number>>
  /** The last id before the run was stopped: `after` for the next run. */
  stoppedAfter?: string
}

const PAGE = 500

interface Seen {
  id: string
  receivedAt: string
  status: Status
  attempts: number
}

/** Counts what {@link changeDeliveries} would look at. */
export async function countDeliveries(sql: Sql, filter: DeliveryFilter, after: string | undefined): Promise<Counted> {
  const rows = await sql<{ status: Status; count: number; inHand: number }[]>`
    select d.status, count(*)::integer as count, (count(*) filter (where d.lease_until > now()))::integer as "inHand"
    ${fromDeliveries(sql, filter)} ${after === undefined ? sql`` : sql`and d.id > ${after}`}
    group by d.status`
  return {
    total: rows.reduce((sum, { count }) => sum + count, 0),
    byStatus: Object.fromEntries(rows.map(({ status, count }) => [status, count])),
    inHand: rows.reduce((sum, row) => sum + row.inHand, 0),
  }
}

/**
 * Changes deliveries page by page, in the order of their ids; each page is one transaction. What a run has changed before it
 * was cut short stays changed. The next run finds the others, which are still in their old state.
 */
export async function changeDeliveries(
  sql: Sql,
  change: Change,
  filter: DeliveryFilter,
  { statuses, after, rate, signal, progress }: ChangeOptions,
): Promise<Changed> {
  const total: Changed = { changed: {}, inHand: 0, otherStatus: {} }
  // The database's own clock, with which attempts are compared. Deliveries that are made from now on are not changed.
  const [started] = await sql<{ at: string }[]>`select clock_timestamp()::text as at`
  const pageSize = rate === undefined ? PAGE : Math.min(PAGE, Math.ceil(rate / 2))
  let last = after
  let lookedAt = 0
  try {
    for (;;) {
      const pageStartedAt = performance.now()
      const page = await nextPage(sql, filter, { after: last, startedAt: started!.at, limit: pageSize })
      const wanted = page.filter(({ status }) => statuses.includes(status))
      const changed = await sql.begin((transaction) => changePage(transaction, change, wanted, started!.at))
      for (const { status } of page.filter((seen) => !wanted.includes(seen))) add(total.otherStatus, status)
      for (const { was } of changed) add(total.changed, was)
      total.inHand += wanted.length - changed.length
      last = page.at(-1)?.id ?? last
      lookedAt += page.length
      progress(lookedAt)
      if (page.length < pageSize) return total
      if (rate !== undefined) await pause((changed.length / rate) * 1000 - (performance.now() - pageStartedAt), signal)
      if (signal.aborted) return { ...total, ...(last !== undefined && { stoppedAfter: last }) }
    }
  } catch (error) {
    if (lookedAt === 0) throw error
    throw new Error(`Stopped after ${lookedAt} deliveries; --after ${last} goes on from there`, { cause: error })
  }
}

function nextPage(
  sql: Sql,
  filter: DeliveryFilter,
  { after, startedAt, limit }: { after: string | undefined; startedAt: string; limit: number },
): Promise<Seen[]> {
  return sql<Seen[]>`
    select d.id, d.event_received_at::text as "receivedAt", d.status, d.attempts
    ${fromDeliveries(sql, filter)}
      ${after === undefined ? sql`` : sql`and d.id > ${after}`}
      and d.created_at <= ${startedAt}::text::timestamptz
    order by d.id
    limit ${limit}`
}

/**
 * Skips locked rows instead of waiting for them: two runs that wait for each other's rows would deadlock, and so would a run
 * and a worker that records an attempt, which it locks before the delivery.
 */
async function changePage(
  sql: TransactionSql,
  change: Change,
  page: Seen[],
  startedAt: string,
): Promise<{ was: Status }[]> {
  if (page.length === 0) return []
  const taken = sql`
    taken as materialized (
      select d.id, d.event_received_at, d.status, d.attempts
      from json_to_recordset(${JSON.stringify(page)}::json)
        as p (id uuid, "receivedAt" timestamptz, status text, attempts integer)
      join deliveries as d
        on d.id = p.id and d.event_received_at = p."receivedAt" and d.status = p.status and d.attempts = p.attempts
      where (d.lease_until is null or d.lease_until < now())
        and not exists (
          select from attempts as a
          where a.delivery_id = d.id and a.event_received_at = d.event_received_at and a.number = d.attempts
            and a.started_at > ${startedAt}::text::timestamptz
        )
      for update of d skip locked
    )`
  if (change === 'cancel') {
    return sql<{ was: Status }[]>`
      with ${taken},
      unrecorded as materialized (
        select a.delivery_id, a.number, a.event_received_at
        from taken
        join attempts as a
          on a.delivery_id = taken.id and a.event_received_at = taken.event_received_at and a.number = taken.attempts
        where a.outcome is null
        for update of a skip locked
      ),
      abandoned as (
        update attempts as a
        set outcome = 'abandoned', duration_ms = extract(epoch from now() - a.started_at) * 1000
        from unrecorded as u
        where a.delivery_id = u.delivery_id and a.event_received_at = u.event_received_at and a.number = u.number
      )
      update deliveries as d
      set status = 'canceled', next_attempt_at = null, lease_until = null, running = false, finished_at = now()
      from taken
      where d.id = taken.id and d.event_received_at = taken.event_received_at
        and not exists (
          select from attempts as a
          where a.delivery_id = d.id and a.event_received_at = d.event_received_at and a.number = taken.attempts
            and a.outcome is null and a.delivery_id not in (select delivery_id from unrecorded)
        )
      returning taken.status as was`
  }
  return sql<{ was: Status }[]>`
    with ${taken}
    update deliveries as d
    set
      status = 'pending', next_attempt_at = least(d.next_attempt_at, now()), lease_until = null, finished_at = null,
      attempts_at_replay = case when taken.status = 'pending' then d.attempts_at_replay else d.attempts end
    from taken
    where d.id = taken.id and d.event_received_at = taken.event_received_at
    returning taken.status as was`
}

function add(counts: Partial<Record<Status, number>>, status: Status): void {
  counts[status] = (counts[status] ?? 0) + 1
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => undefined) // the caller checks the signal again
}
