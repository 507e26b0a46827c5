import type { Logger } from '@ringback/core/log'
import { Gauge, readForScrape } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import type { Sql } from '@ringback/core/store/connect'

/**
 * Stores the newest canary of each ingest, in whatever order they come, and even if one comes twice. A stored time in the
 * future is from a clock that was wrong, so any other replaces it. Losses that canaries report are recorded and logged.
 */
export async function storeCanaries(sql: Sql, canaries: string, log: Logger): Promise<void> {
  const told = await sql<{ ingest: string; lost: string | null }[]>`
    with canaries as materialized (
      select *
      from json_to_recordset(${canaries}::json) as c (
        ingest text, host text, "startedAt" double precision, "sentAt" double precision, spool json, lost text, "isLast" boolean
      )
    ),
    stored as (
      insert into ingests as i (name, host, started_at, canary_sent_at, spool_groups, spool_bytes, left_at)
      select distinct on (ingest)
        ingest, host, to_timestamp("startedAt" / 1000), to_timestamp("sentAt" / 1000),
        (spool ->> 'groups')::bigint, (spool ->> 'bytes')::bigint, case when "isLast" then to_timestamp("sentAt" / 1000) end
      from canaries
      order by ingest, "sentAt" desc
      on conflict (name) do update set
        host = excluded.host, started_at = excluded.started_at, canary_sent_at = excluded.canary_sent_at,
        canary_stored_at = excluded.canary_stored_at,
        heard_since = case
          when excluded.canary_stored_at > i.canary_stored_at + interval '1 minute' then excluded.canary_stored_at
          else i.heard_since
        end,
        spool_groups = excluded.spool_groups,
        spool_bytes = excluded.spool_bytes, left_at = excluded.left_at
      where excluded.canary_sent_at >= i.canary_sent_at or i.canary_sent_at > now()
    ),
    losses as (
      insert into queue_losses (detected_at, detected_by, description)
      select least(to_timestamp("sentAt" / 1000), now()), ingest, left(lost, 1000) from canaries where lost is not null
      on conflict do nothing
      returning detected_by, description
    )
    select detected_by as ingest, description as lost from losses`
  for (const { ingest, lost } of told) log.error({ ingest, description: lost }, 'queue.data_lost')
}

/** Adds `ringback_canary_age_seconds`. While Postgres is down, the last known canary goes on ageing. */
export function addCanaryAge(registry: Registry, sql: Sql): void {
  let newest: number | undefined
  const read = readForScrape(async () => {
    const [row] = await sql<{ seconds: number | null }[]>`
      select extract(epoch from now() - max(least(canary_sent_at, canary_stored_at)))::float8 as seconds
      from ingests
      where left_at is null and canary_stored_at > now() - interval '1 day'`
    newest = row!.seconds === null ? undefined : performance.now() - row!.seconds * 1000
  })
  const age: Gauge = new Gauge({
    name: 'ringback_canary_age_seconds',
    help: 'Since the newest canary of any ingest was sent that has come through to Postgres. None before the first.',
    registers: [registry],
    async collect() {
      await read()
      age.remove()
      if (newest !== undefined) age.set(Math.max(0, performance.now() - newest) / 1000)
    },
  })
}
