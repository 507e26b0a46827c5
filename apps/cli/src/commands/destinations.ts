import { setTimeout as sleep } from 'node:timers/promises'
import type { Sql } from '@ringback/core/store/connect'
import type { Command } from 'commander'
import { withSql } from '../environment.ts'
import { errorCell, print, printList, showProgress } from '../output.ts'

/** `ringback destinations list`, `enable` and `disable` */
export function addDestinationsCommand(program: Command): void {
  const command = program.command('destinations').description('where handlers send, and the state of each')

  command
    .command('list')
    .description('each handler with the state of its breaker and how much waits for it')
    .action(async (_options: unknown, self: Command) => {
      printList(self, await withSql(list), { cells, none: 'No destinations' })
    })

  command
    .command('enable')
    .description('close the breaker, and make all pending deliveries of the handler due now')
    .argument('<handler>')
    .action(async (handler: string, _options: unknown, self: Command) => {
      const result = await withSql((sql) => enable(sql, handler))
      print(self, result, `${handler}: closed, was ${result.was}; ${result.madeDue} deliveries made due`)
    })

  command
    .command('disable')
    .description('send nothing to the handler until it is enabled; its deliveries wait')
    .argument('<handler>')
    .action(async (handler: string, _options: unknown, self: Command) => {
      const result = await withSql((sql) => disable(sql, handler))
      print(self, result, `${handler}: disabled, was ${result.was}; "ringback destinations enable ${handler}" ends it`)
    })
}

type State = 'closed' | 'open' | 'half_open' | 'disabled'

interface Destination {
  handler: string
  /** Null for a handler without limits: it has no breaker. */
  state: State | null
  since: Date | null
  openUntil: Date | null
  consecutiveFailures: number | null
  pending: number
  /** How many of the pending ones are due. */
  due: number
  lastSuccessAt: Date | null
  lastFailureAt: Date | null
  lastError: string | null
}

function list(sql: Sql): Promise<Destination[]> {
  return sql<Destination[]>`
    select
      handler, case when n.limited then n.state end as state, case when n.limited then n.state_since end as since,
      case when n.limited then n.open_until end as "openUntil", n.consecutive_failures as "consecutiveFailures",
      coalesce(w.pending, 0) as pending, coalesce(w.due, 0) as due,
      n.last_success_at as "lastSuccessAt", n.last_failure_at as "lastFailureAt", n.last_error as "lastError"
    from destinations as n
    full join (
      select
        handler, count(*)::integer as pending, (count(*) filter (where next_attempt_at <= now()))::integer as due
      from deliveries
      where status = 'pending'
      group by handler
    ) as w using (handler)
    order by handler`
}

function cells(destination: Destination): Record<string, string | number> {
  const { handler, state, since, openUntil, consecutiveFailures, pending, due, lastSuccessAt, lastError } = destination
  return {
    handler,
    state: state ?? 'no limits',
    since: since?.toISOString() ?? '',
    until: openUntil?.toISOString() ?? '',
    failures: consecutiveFailures ?? '',
    pending,
    due,
    'last success': lastSuccessAt?.toISOString() ?? '',
    'last error': errorCell(lastError),
  }
}

/** When to look again: a worker that has just found the breaker open may still be about to put deliveries off. */
const AGAIN_AFTER_MS = 1000

async function enable(sql: Sql, handler: string): Promise<{ handler: string; was: State; madeDue: number }> {
  const [enabled] = await sql<{ at: string }[]>`select clock_timestamp()::text as at`
  const was = await setState(sql, handler, 'closed')
  const first = await makeDue(sql, handler, enabled!.at)
  await sleep(AGAIN_AFTER_MS)
  return { handler, was, madeDue: first + (await makeDue(sql, handler, enabled!.at)) }
}

async function disable(sql: Sql, handler: string): Promise<{ handler: string; was: State }> {
  return { handler, was: await setState(sql, handler, 'disabled') }
}

/** Sets the state, with a breaker that remembers nothing. The consecutive failures stay: only a success ends them. */
async function setState(sql: Sql, handler: string, state: State): Promise<State> {
  const [row] = await sql<{ was: State }[]>`
    with before as (select handler, state from destinations where handler = ${handler} and limited for update)
    update destinations as n
    set
      state = ${state}, state_since = case when n.state = ${state} then n.state_since else now() end,
      open_until = null, openings = 0, window_started_at = now(), window_attempts = 0, window_failures = 0
    from before
    where n.handler = before.handler
    returning before.state as was`
  if (row === undefined) throw new Error(await reasonForNone(sql, handler))
  return row.was
}

async function reasonForNone(sql: Sql, handler: string): Promise<string> {
  const known = await sql<{ handler: string }[]>`select handler from destinations where limited order by handler`
  return (
    `No handler "${handler}" has a state here; these have: ${known.map((row) => row.handler).join(', ') || 'none'}. ` +
    'A worker makes it at its start for each handler with limits; "limits: {}" in the configuration is enough'
  )
}

const PAGE = 1000

/**
 * Makes waiting deliveries due, in pages that are committed one by one, because there may be many. It takes no more than
 * waited at the start, because the destination's limits may meanwhile put off again what was made due. What has been tried
 * since is left to its retry policy, and what is locked is in somebody's hand.
 */
async function makeDue(sql: Sql, handler: string, enabledAt: string): Promise<number> {
  const waiting = sql`
    from deliveries as d
    where handler = ${handler} and status = 'pending' and next_attempt_at > now()
      and (lease_until is null or lease_until < now())
      and not exists (
        select from attempts as a
        where a.delivery_id = d.id and a.event_received_at = d.event_received_at and a.number = d.attempts
          and a.started_at > ${enabledAt}::text::timestamptz
      )`
  const [before] = await sql<{ count: number }[]>`select count(*)::integer as count ${waiting}`
  let madeDue = 0
  while (madeDue < before!.count) {
    const { count } = await sql`
      with taken as materialized (
        select id, event_received_at ${waiting} order by next_attempt_at limit ${PAGE} for update of d skip locked
      )
      update deliveries as d
      set next_attempt_at = now()
      from taken
      where d.id = taken.id and d.event_received_at = taken.event_received_at`
    if (count === 0) break
    madeDue += count
    showProgress(`${madeDue} of ${before!.count} made due`)
  }
  showProgress('')
  return madeDue
}
