-- 0020: requests that were counted while a clock was ahead hide nothing that comes after them, refusals that one ingest has
-- reported are not forgotten for an earlier acceptance that another reports later, and the time of the last one does not go
-- back. Adds a column to source_states, which has a row for each source.

alter table source_states add column refused_since timestamptz;

comment on column source_states.refused_since is 'When the first of these was refused.';

-- As in 0004, with refused_since, and no time is later than now.
create or replace function store_counts(counted json) returns void
language plpgsql as $$
declare
  report record;
begin
  insert into source_minutes (
    minute, source, accepted, forged, unreadable, too_large, method_not_allowed, unknown_source, not_durable, overloaded,
    client_gone, ack_ms
  )
  select
    minute, source, coalesce(accepted, 0), coalesce(forged, 0), coalesce(unreadable, 0), coalesce(too_large, 0),
    coalesce(method_not_allowed, 0), coalesce(unknown_source, 0), coalesce(not_durable, 0), coalesce(overloaded, 0),
    coalesce(client_gone, 0), "ackMs"
  from json_to_recordset(counted) as c (minute timestamptz, source text, outcomes json, "ackMs" integer[]),
    json_to_record(outcomes) as o (
      accepted integer, forged integer, unreadable integer, too_large integer, method_not_allowed integer,
      unknown_source integer, not_durable integer, overloaded integer, client_gone integer
    );

  -- Stored when the clock of this server was ahead. Whatever is reported now is later than a minute ago.
  update source_states set last_accepted_at = now() - interval '1 minute' where last_accepted_at > now() + interval '1 minute';
  update source_states set refused_since = now() - interval '1 minute' where refused_since > now() + interval '1 minute';
  update source_states set last_refused_at = now() - interval '1 minute' where last_refused_at > now() + interval '1 minute';

  -- In the order of the names, so that two workers do not wait for each other; of one source, in the order of time.
  for report in
    select
      source, "refusedInARow" as refused_in_a_row,
      case when "lastAcceptedAt" is not null then least(to_timestamp("lastAcceptedAt" / 1000), now()) end as accepted_at,
      case when "refusedSince" is not null then least(to_timestamp("refusedSince" / 1000), now()) end as refused_since,
      case when "lastRefusedAt" is not null then least(to_timestamp("lastRefusedAt" / 1000), now()) end as refused_at
    from json_to_recordset(counted) as c (
      minute timestamptz, source text, "lastAcceptedAt" double precision, "refusedInARow" integer,
      "refusedSince" double precision, "lastRefusedAt" double precision
    )
    where source <> ''
    order by source, minute
  loop
    insert into source_states as s (source, last_accepted_at, refused_in_a_row, refused_since, last_refused_at)
    values (report.source, report.accepted_at, report.refused_in_a_row, report.refused_since, report.refused_at)
    -- An acceptance ends the row, save for refusals that another ingest has reported before and that came after it.
    -- Refusals before an acceptance that another ingest has reported are in no row any more.
    on conflict (source) do update set
      (refused_in_a_row, refused_since) = (
        select
          case when has_known then s.refused_in_a_row else 0 end + case when has_own then report.refused_in_a_row else 0 end,
          least(case when has_known then s.refused_since end, case when has_own then report.refused_since end)
        from (
          values (
            report.accepted_at is null or report.accepted_at < coalesce(s.refused_since, s.last_accepted_at),
            report.refused_since >= coalesce(s.last_accepted_at, '-infinity')
          )
        ) as counts (has_known, has_own)
      ),
      last_accepted_at = greatest(s.last_accepted_at, report.accepted_at),
      last_refused_at = greatest(s.last_refused_at, report.refused_at);
  end loop;
end
$$;
