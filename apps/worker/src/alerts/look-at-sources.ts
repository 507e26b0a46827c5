import { textList } from '@ringback/core/store/connect'
import { atLeast, MOST_AHEAD, MOST_COUNTED } from './look.ts'
import type { LookDependencies } from './look.ts'
import type { Condition } from './transitions.ts'

export async function lookForRefusals({ sql, config }: LookDependencies): Promise<Condition[]> {
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

/** Once an alert is open, half as many refusals keep it open: a rate about the limit would raise it again and again. */
export async function lookForQuarantined({ sql, config, openSubjects }: LookDependencies): Promise<Condition[]> {
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
