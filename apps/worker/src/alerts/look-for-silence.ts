import { textList } from '@ringback/core/store/connect'
import type { TransactionSql } from '@ringback/core/store/connect'
import type { LookDependencies } from './look.ts'
import { isExpected } from './look-at-ingests.ts'
import type { Condition } from './transitions.ts'

/** Quiet sources that usually are busy at this time. Once an alert is open, it lasts until the next accepted request. */
export async function lookForSilence({ sql, config, openSubjects }: LookDependencies): Promise<Condition[]> {
  const { quietMinutes, busyPerMinute } = config.alerts
  // Whether source `s` was, in the minutes up to the time `until`.
  const wasBusy = (minutes: number) => sql`
    (
      select coalesce(sum(accepted), 0)
      from source_minutes as m
      where m.source = s.source
        and m.minute > until - ${minutes} * interval '1 minute'
        and m.minute <= until
    ) >= ${busyPerMinute * minutes}::float8`
  const quiet = await sql<
    { source: string; lastAcceptedAt: Date; isKnown: boolean; days: boolean[]; hours: boolean[] }[]
  >`
    select
      s.source, s.last_accepted_at as "lastAcceptedAt", ${isKnownSince(sql, quietMinutes)} as "isKnown",
      to_json(array(
        select ${wasBusy(quietMinutes)}
        from generate_series(1, 7) as day
        cross join lateral (select now() - day * interval '1 day' as until) as this_time
        where exists (
          select from source_minutes as m
          where m.source = s.source and m.minute < until - ${quietMinutes} * interval '1 minute'
        )
        order by day
      )) as days,
      to_json(array(
        select ${wasBusy(60)}
        from generate_series(0, 2) as hour
        cross join lateral (select s.last_accepted_at - hour * interval '1 hour' as until) as this_hour
      )) as hours
    from source_states as s
    where s.last_accepted_at < now() - ${quietMinutes} * interval '1 minute'
      and s.source in ${textList(sql, [...config.sources.keys()])}`
  return quiet
    .filter(
      ({ source, isKnown, days, hours }) => openSubjects.includes(source) || (isKnown && isUsuallyBusy(days, hours)),
    )
    .map(({ source, lastAcceptedAt }) => ({
      kind: 'source_quiet',
      subject: source,
      text: `no request of the source "${source}" was accepted since ${lastAcceptedAt.toISOString()}, when it usually is busy`,
      details: { lastAcceptedAt },
    }))
}

/**
 * Whether a source usually is busy: at this time on most of the last seven days, and on this day a week ago, as far as these
 * are known; `days` begins with yesterday. One that is younger than a day is so if it was busy in each of the three `hours`
 * before its last request.
 */
function isUsuallyBusy(days: boolean[], hours: boolean[]): boolean {
  if (days.length === 0) return hours.every(Boolean)
  return days.filter(Boolean).length > days.length / 2 && (days[6] ?? true)
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
