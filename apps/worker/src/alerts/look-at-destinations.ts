import { OWN_SOURCE, letsAlertsThrough } from '@ringback/core/filter'
import { textList } from '@ringback/core/store/connect'
import { atLeast, MOST_COUNTED } from './look.ts'
import type { LookDependencies } from './look.ts'
import type { Condition } from './transitions.ts'

/** What destinations answered is for people to read, not to store once more. */
const MAX_ERROR_LENGTH = 300

/**
 * The handlers whose destinations are watched. Handlers that get alerts are not: an alert about one would go to itself,
 * fail, and be the next failure. Their state is in `destinations` for everybody to see.
 */
export function watchedHandlers({ handlers }: LookDependencies['config']): string[] {
  return handlers.filter(({ on }) => !letsAlertsThrough(on)).map(({ name }) => name)
}

export async function lookForFailures({ sql, config }: LookDependencies): Promise<Condition[]> {
  const found = await sql<
    { handler: string; failures: number; lastError: string | null; lastSuccessAt: Date | null }[]
  >`
    select
      handler, consecutive_failures as failures, left(last_error, ${MAX_ERROR_LENGTH}) as "lastError",
      last_success_at as "lastSuccessAt"
    from destinations
    where consecutive_failures >= ${config.alerts.consecutiveFailures}
      and handler in ${textList(sql, watchedHandlers(config))}`
  return found.map(({ handler, failures, ...details }) => ({
    kind: 'destination_failing',
    subject: handler,
    occurrences: failures,
    text: `${failures} attempts of the handler "${handler}" have failed in a row`,
    details,
  }))
}

export async function lookForState(
  { sql, config }: LookDependencies,
  kind: 'destination_open' | 'destination_disabled',
): Promise<Condition[]> {
  const states = kind === 'destination_open' ? ['open', 'half_open'] : ['disabled']
  const found = await sql<{ handler: string; since: Date; lastError: string | null }[]>`
    select handler, state_since as since, left(last_error, ${MAX_ERROR_LENGTH}) as "lastError"
    from destinations
    where limited
      and state in ${textList(sql, states)}
      and handler in ${textList(sql, watchedHandlers(config))}`
  return found.map(({ handler, ...details }) => ({
    kind,
    subject: handler,
    text:
      kind === 'destination_open'
        ? `the handler "${handler}" fails so often that its deliveries wait (circuit breaker)`
        : `the destination of the handler "${handler}" is disabled: its deliveries wait until it is enabled again`,
    details,
  }))
}

/** Dead letters of the last hour by handler, also of handlers that have left the configuration, but not those of alerts. */
export async function lookForDeadLetters({ sql, config, openSubjects }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ handler: string; count: number; lastError: string | null; eventIds: string[] }[]>`
    with recent as materialized (
      select handler
      from (
        select handler
        from deliveries
        where status = 'dead' and finished_at > now() - interval '1 hour'
        order by finished_at desc
        limit ${MOST_COUNTED}
      ) as newest
      union
      ${textList(sql, [...openSubjects, ...config.handlers.map(({ name }) => name)])}
    )
    select
      recent.handler, count(*)::integer as count,
      left((array_agg(dead.last_error order by dead.finished_at desc))[1], ${MAX_ERROR_LENGTH}) as "lastError",
      to_json((array_agg(dead.event_id order by dead.finished_at desc))[1:3]) as "eventIds"
    from recent
    cross join lateral (
      select d.event_id, d.last_error, d.finished_at
      from deliveries as d
      left join events as e on e.id = d.event_id and e.received_at = d.event_received_at
      where d.handler = recent.handler
        and d.status = 'dead'
        and d.finished_at > now() - interval '1 hour'
        and e.source is distinct from ${OWN_SOURCE}
      order by d.finished_at desc
      limit ${MOST_COUNTED}
    ) as dead
    group by recent.handler`
  return found.map(({ handler, count, ...details }) => ({
    kind: 'dead_letters',
    subject: handler,
    occurrences: count,
    text: `${atLeast(count)} ${count === 1 ? 'delivery' : 'deliveries'} of the handler "${handler}" became dead letters within the last hour`,
    details,
  }))
}
