import type { CallEnd } from '@ringback/core/providers/provider'
import { textList } from '@ringback/core/store/connect'
import type { TransactionSql } from '@ringback/core/store/connect'
import type { LookDependencies } from './look.ts'
import type { Condition } from './transitions.ts'

// The call watch: calls that should have ended by now, though no event says so. Each event is looked at once, when it is so
// old that its call should be over. A call that is found then is followed until it ends, or for a day. An event that is
// stored later than that is never looked at: an index by which it could be found would cost every event. If the watch is
// ahead of the time, because a clock was, it begins again a day ago.

/** How many calls of a source are followed. If none of them ends, the events that end calls do not arrive at all. */
const MOST_FOLLOWED = 1000

/** How much time one look covers. After a pause, or when the watch is switched on, it catches up in such steps. */
const STEP = '10 minutes'
/** How many events of a source one look covers: a whole step of a busy source would take longer than a look may, each time. */
const MOST_READ = 50_000

/** Resolves to one condition for each source that has such calls. */
export async function watchCalls({ sql, config }: LookDependencies): Promise<Condition[]> {
  const { unendedCallMinutes: minutes } = config.alerts
  if (minutes === 0) return []
  const conditions: Condition[] = []
  for (const [source, { callEnd }] of config.sources) {
    if (callEnd === undefined) continue
    await forgetEnded(sql, source, callEnd)
    await findUnended(sql, source, callEnd, minutes)
    const [found] = await sql<{ count: number; examples: string[] | null }[]>`
      select count(*)::integer as count, to_json((array_agg(call_id order by first_event_at))[1:5]) as examples
      from unended_calls where source = ${source}`
    if (found === undefined || found.count === 0) continue
    const { count, examples } = found
    conditions.push({
      kind: 'calls_unended',
      subject: source,
      occurrences: count,
      text: `${count} ${count === 1 ? 'call' : 'calls'} of the source "${source}" began more than ${minutes} minutes ago and no event says that ${count === 1 ? 'it' : 'they'} ended`,
      details: { callIds: examples },
    })
  }
  return conditions
}

async function forgetEnded(sql: TransactionSql, source: string, callEnd: CallEnd): Promise<void> {
  await sql`
    delete from unended_calls as u
    where u.source = ${source}
      and exists (
        select from events as e
        where e.source = u.source
          and e.call_id = u.call_id
          and e.received_at > u.first_event_at - interval '1 day'
          and ${ends(sql, callEnd)}
      )`
}

/** Each call is looked at once, however many events it has in this step: a sender can put any number into one call. */
async function findUnended(sql: TransactionSql, source: string, callEnd: CallEnd, minutes: number): Promise<void> {
  const [step] = await sql<{ from: string; to: string }[]>`
    with step as (
      select
        greatest(
          (select watched_until from call_watches where source = ${source} and watched_until < now()), now() - interval '1 day'
        ) as from_time
    )
    insert into call_watches as w (source, watched_until)
    select ${source}, greatest(from_time, least(
      now() - ${minutes} * interval '1 minute',
      from_time + ${STEP}::text::interval,
      (
        select received_at
        from events
        where source = ${source} and received_at > from_time and received_at < from_time + ${STEP}::text::interval
        order by received_at
        offset ${MOST_READ - 1}
        limit 1
      )
    ))
    from step
    on conflict (source) do update set watched_until = excluded.watched_until
    returning (select from_time from step)::text as from, watched_until::text as to`
  await sql`
    insert into unended_calls (source, call_id, first_event_at)
    select source, call_id, first_event_at
    from (
      select source, call_id, min(received_at) as first_event_at
      from events
      where source = ${source}
        and received_at > ${step!.from}::text::timestamptz
        and received_at <= ${step!.to}::text::timestamptz
        and call_id is not null
      group by source, call_id
    ) as began
    where not exists (
      select from events as e
      where e.source = began.source
        and e.call_id = began.call_id
        and e.received_at > ${step!.from}::text::timestamptz - interval '1 day'
        and ${ends(sql, callEnd)}
    )
    limit (select greatest(0, ${MOST_FOLLOWED} - count(*)) from unended_calls where source = ${source})
    on conflict do nothing`
}

function ends(sql: TransactionSql, callEnd: CallEnd) {
  const byType = 'types' in callEnd ? sql`e.type in ${textList(sql, callEnd.types)}` : sql`false`
  const byField =
    'field' in callEnd ? sql`e.payload ->> ${callEnd.field} in ${textList(sql, callEnd.values)}` : sql`false`
  return sql`(${byType} or ${byField})`
}
