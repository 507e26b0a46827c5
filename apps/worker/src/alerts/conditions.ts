import type { AlertKind } from '@ringback/core/alerts'
import type { Config } from '@ringback/core/config'
import { OWN_SOURCE, letsAlertsThrough } from '@ringback/core/filter'
import { textList } from '@ringback/core/store/connect'
import type { TransactionSql } from '@ringback/core/store/connect'
import type { Condition, OpenAlert } from './transitions.ts'
import { watchCalls } from './watch-calls.ts'

// What is wrong at this moment. Every look is a few index lookups, however much there is in the tables: what could be
// many is counted up to a limit.

export interface LookDependencies {
  sql: TransactionSql
  config: Pick<Config, 'sources' | 'handlers' | 'alerts'>
  /** The subjects of the open alerts of the kind that is looked for. */
  openSubjects: readonly string[]
  /** How long the oldest callbacks in the queue have waited there. */
  queueAgeMs: () => Promise<number>
}

type Look = (deps: LookDependencies) => Promise<Condition[]>

/** The look for each kind of alert. The caller makes sure that one that fails stops no other. */
export const looks: Record<AlertKind, Look> = {
  destination_failing: lookForFailures,
  destination_open: (deps) => lookForState(deps, 'destination_open'),
  destination_disabled: (deps) => lookForState(deps, 'destination_disabled'),
  dead_letters: lookForDeadLetters,
  source_refusing: lookForRefusals,
  source_quiet: lookForSilence,
  store_lagging: lookForLag,
  quarantine_filling: lookForQuarantined,
  calls_unended: watchCalls,
  canary_late: lookForCanaries,
  spool_in_use: lookForSpools,
  queue_data_lost: lookForLosses,
}

/** Whether an alert is of a kind and subject that a worker with this configuration looks for. */
export function isWatched({ kind, subject }: OpenAlert, config: LookDependencies['config']): boolean {
  if (!Object.hasOwn(looks, kind) || config.alerts.disabled.includes(kind)) return false
  switch (kind) {
    case 'destination_failing':
    case 'destination_open':
    case 'destination_disabled':
      return watchedHandlers(config).includes(subject)
    case 'source_refusing':
    case 'source_quiet':
    case 'quarantine_filling':
      return config.sources.has(subject)
    case 'calls_unended':
      return config.sources.has(subject) && config.alerts.unendedCallMinutes > 0
    case 'dead_letters':
    case 'store_lagging':
    case 'canary_late':
    case 'spool_in_use':
    case 'queue_data_lost':
      return true
  }
}

/** What ingest dates later than this was dated by a clock that is ahead. */
const MOST_AHEAD = '1 minute'

/** Nothing is counted beyond this, because the last reminder comes at a thousand. */
const MOST_COUNTED = 1000

/** What destinations answered is for people to read, not to store once more. */
const MAX_ERROR_LENGTH = 300

const atLeast = (count: number) => (count >= MOST_COUNTED ? `${MOST_COUNTED} or more` : String(count))

/**
 * The handlers whose destinations are watched. Handlers that get alerts are not: an alert about one would go to itself,
 * fail, and be the next failure. Their state is in `destinations` for everybody to see.
 */
function watchedHandlers({ handlers }: LookDependencies['config']): string[] {
  return handlers.filter(({ on }) => !letsAlertsThrough(on)).map(({ name }) => name)
}

async function lookForFailures({ sql, config }: LookDependencies): Promise<Condition[]> {
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

async function lookForState(
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
    occurrences: undefined,
    text:
      kind === 'destination_open'
        ? `the handler "${handler}" fails so often that its deliveries wait (circuit breaker)`
        : `the destination of the handler "${handler}" is disabled: its deliveries wait until it is enabled again`,
    details,
  }))
}

/** Dead letters of the last hour by handler, also of handlers that have left the configuration, but not those of alerts. */
async function lookForDeadLetters({ sql, openSubjects }: LookDependencies): Promise<Condition[]> {
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
      ${textList(sql, openSubjects)}
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

async function lookForRefusals({ sql, config }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ source: string; refused: number; lastAcceptedAt: Date | null }[]>`
    select source, refused_in_a_row::integer as refused, last_accepted_at as "lastAcceptedAt"
    from source_states
    where refused_in_a_row >= ${config.alerts.consecutiveFailures}
      and source in ${textList(sql, [...config.sources.keys()])}`
  return found.map(({ source, refused, ...details }) => ({
    kind: 'source_refusing',
    subject: source,
    occurrences: refused,
    text: `${refused} requests to the source "${source}" were refused in a row`,
    details,
  }))
}

/**
 * Quiet sources that usually have requests at this time of day: on most of the last seven days, and on this day a week ago,
 * as far as these are known. A source that is younger than a day usually has requests if it had them in each of the three
 * hours before its last one. Once an alert is open, the source stays quiet until its next accepted request.
 */
async function lookForSilence({ sql, config, openSubjects }: LookDependencies): Promise<Condition[]> {
  const { quietMinutes, busyPerMinute } = config.alerts
  const found = await sql<{ source: string; lastAcceptedAt: Date }[]>`
    select s.source, s.last_accepted_at as "lastAcceptedAt"
    from source_states as s
    cross join lateral (select min(minute) as minute from source_minutes as m where m.source = s.source) as first
    cross join lateral (
      select
        count(*) as known, count(*) filter (where is_busy) as busy,
        coalesce(bool_or(is_busy) filter (where day = 7), true) as a_week_ago
      from (
        select
          day,
          (
            select coalesce(sum(accepted), 0)
            from source_minutes as m
            where m.source = s.source
              and m.minute > now() - day * interval '1 day' - ${quietMinutes} * interval '1 minute'
              and m.minute <= now() - day * interval '1 day'
          ) >= ${busyPerMinute * quietMinutes}::float8 as is_busy
        from generate_series(1, 7) as day
        where first.minute < now() - day * interval '1 day' - ${quietMinutes} * interval '1 minute'
      ) as by_day
    ) as days
    cross join lateral (
      select count(*) as busy
      from generate_series(1, 3) as hour
      where (
        select coalesce(sum(accepted), 0)
        from source_minutes as m
        where m.source = s.source
          and m.minute > s.last_accepted_at - hour * interval '1 hour'
          and m.minute <= s.last_accepted_at - (hour - 1) * interval '1 hour'
      ) >= ${busyPerMinute * 60}::float8
    ) as hours
    where s.last_accepted_at < now() - ${quietMinutes} * interval '1 minute'
      and s.source in ${textList(sql, [...config.sources.keys()])}
      and (
        s.source in ${textList(sql, openSubjects)}
        or (
          case when days.known > 0 then days.busy * 2 > days.known and days.a_week_ago else hours.busy = 3 end
          and ${isKnownSince(sql, quietMinutes)}
        )
      )`
  return found.map(({ source, lastAcceptedAt }) => ({
    kind: 'source_quiet',
    subject: source,
    occurrences: undefined,
    text: `no request of the source "${source}" was accepted since ${lastAcceptedAt.toISOString()}, when it usually is busy`,
    details: { lastAcceptedAt },
  }))
}

/** Measured by what waits in the queue and by the newest events. Neither has what a worker has in hand but cannot store. */
async function lookForLag({ sql, config, queueAgeMs }: LookDependencies): Promise<Condition[]> {
  const [found] = await sql<{ seconds: number | null }[]>`
    select round(extract(epoch from max(stored_at - received_at)))::integer as seconds
    from (
      select stored_at, received_at
      from events
      where received_at > now() - interval '7 days' and received_at < now() + ${MOST_AHEAD}::text::interval
      order by id desc
      limit 100
    ) as newest
    where stored_at > now() - interval '1 minute'`
  const seconds = Math.max(found?.seconds ?? 0, Math.floor((await queueAgeMs()) / 1000))
  if (seconds < config.alerts.storeLagSeconds) return []
  return [
    {
      kind: 'store_lagging',
      subject: '',
      occurrences: undefined,
      text: `callbacks wait ${seconds} s until they are stored: the workers do not keep up`,
      details: { seconds },
    },
  ]
}

/** Once an alert is open, half as many refusals keep it open: a rate about the limit would raise it again and again. */
async function lookForQuarantined({ sql, config, openSubjects }: LookDependencies): Promise<Condition[]> {
  const most = config.alerts.quarantinedIn5Minutes
  const found = await sql<{ source: string; kept: number; counted: number }[]>`
    select source, kept.count as kept, dropped.count as counted
    from json_array_elements_text(${JSON.stringify([...config.sources.keys()])}::json) as source
    cross join lateral (
      select count(*)::integer as count
      from (
        select from quarantine
        where quarantine.source = source.value
          and received_at > now() - interval '5 minutes'
          and received_at < now() + ${MOST_AHEAD}::text::interval
        limit ${Math.max(most + 1, MOST_COUNTED)}
      ) as newest
    ) as kept
    cross join lateral (
      select coalesce(sum(d.count), 0)::integer as count
      from quarantine_dropped as d
      where d.source = source.value and recorded_at > now() - interval '5 minutes'
    ) as dropped
    where kept.count + dropped.count > case
      when source.value in ${textList(sql, openSubjects)}
      then ${most / 2}::float8
      else ${most}
    end`
  return found.map(({ source, kept, counted }) => ({
    kind: 'quarantine_filling',
    subject: source,
    occurrences: kept + counted,
    text: `${atLeast(kept + counted)} requests or callbacks of the source "${source}" were refused within 5 minutes`,
    details: { kept, counted },
  }))
}

/**
 * Whether all ingests' counts of the time in which source `s` is quiet have come. Counts come some seconds after
 * canaries, by the same queue: while the canaries of an ingest are missing, its counts may be missing too. One of several
 * ingests counts as gone when it has been silent for an hour.
 */
function isKnownSince(sql: TransactionSql, quietMinutes: number) {
  return sql`
    not exists (
      select from ingests as i
      where ${isExpected(sql)}
        and canary_stored_at > now() - interval '1 day'
        and canary_stored_at > (select max(canary_stored_at) from ingests) - interval '1 hour'
        and (
          least(canary_sent_at, canary_stored_at) <= s.last_accepted_at + ${quietMinutes} * interval '1 minute'
          or heard_since > now() - interval '1 minute'
        )
    )`
}

/** Whether canaries of ingest `i` should come: not if it ended in good order, nor if another on its host has replaced it. */
function isExpected(sql: TransactionSql) {
  return sql`
    i.left_at is null
    and not exists (
      select from ingests as later
      where later.host = i.host
        and later.name <> i.name
        and later.started_at > least(i.canary_sent_at, i.canary_stored_at)
    )`
}

/** One of several ingests counts as gone after an hour of silence. If all are silent, the alert stays open for a day. */
async function lookForCanaries({ sql, config }: LookDependencies): Promise<Condition[]> {
  const { canarySeconds } = config.alerts
  const found = await sql<{ name: string; lastSentAt: Date; lastStoredAt: Date; seconds: number }[]>`
    select
      name, canary_sent_at as "lastSentAt", canary_stored_at as "lastStoredAt",
      floor(extract(epoch from now() - least(canary_sent_at, canary_stored_at)))::integer as seconds
    from ingests as i
    where ${isExpected(sql)}
      and canary_stored_at > now() - interval '1 day'
    order by seconds, name`
  const late = found.filter(({ seconds }) => seconds > canarySeconds)
  const [newest] = late
  if (newest === undefined) return []
  if (late.length === found.length) {
    const { name: ingest, seconds, lastSentAt, lastStoredAt } = newest
    return [
      {
        kind: 'canary_late',
        subject: '',
        occurrences: undefined,
        text: `nothing that ingest has sent within the last ${seconds} s is stored: ingest is down, or the queue or the workers do not pass on what it accepts`,
        details: { ingest, lastSentAt, lastStoredAt },
      },
    ]
  }
  return late
    .filter(({ seconds }) => seconds < GONE_AFTER_SECONDS)
    .slice(0, MOST_INGESTS)
    .map(({ name, seconds, lastSentAt, lastStoredAt }) => ({
      kind: 'canary_late',
      subject: name,
      occurrences: undefined,
      text: `nothing that the ingest "${name}" has sent within the last ${seconds} s is stored, unlike that of others: it is down, cut off from the queue, or its clock is wrong`,
      details: { lastSentAt, lastStoredAt },
    }))
}

const GONE_AFTER_SECONDS = 3600
/** How many ingests get an alert of their own. */
const MOST_INGESTS = 20

/** Includes an ingest that has ended, for a day, unless another on its host was heard of since: that one drains it. */
async function lookForSpools({ sql }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ name: string; groups: number; bytes: number; lastStoredAt: Date }[]>`
    select name, spool_groups::float8 as groups, spool_bytes::float8 as bytes, canary_stored_at as "lastStoredAt"
    from ingests as i
    where spool_groups > 0
      and canary_stored_at > now() - interval '1 day'
      and not exists (
        select from ingests as later
        where later.host = i.host
          and later.name <> i.name
          and later.canary_stored_at > i.canary_stored_at + interval '1 minute'
      )
    order by spool_bytes desc, name
    limit ${MOST_INGESTS}`
  return found.map(({ name, groups, bytes, lastStoredAt }) => ({
    kind: 'spool_in_use',
    subject: name,
    occurrences: undefined,
    text: `${groups} groups of callbacks (${bytes} bytes) wait on the disk of the ingest "${name}": the queue did not take them`,
    details: { groups, bytes, lastStoredAt },
  }))
}

/** The alert stays open for an hour: a loss cannot be undone, but somebody must know of it. */
async function lookForLosses({ sql }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ description: string; detectedBy: string; detectedAt: Date }[]>`
    select description, detected_by as "detectedBy", detected_at as "detectedAt"
    from queue_losses
    where detected_at > now() - interval '1 hour'
    order by detected_at desc
    limit ${MOST_COUNTED}`
  const [newest] = found
  if (newest === undefined) return []
  const { description, ...details } = newest
  return [
    {
      kind: 'queue_data_lost',
      subject: '',
      occurrences: found.length,
      text: `acknowledged callbacks may be lost: ${description}`,
      details,
    },
  ]
}
