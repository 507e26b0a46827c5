-- 0004: monitoring as data: what comes in and what goes out by the minute, alerts, and calls that have not ended.

-- Histograms: how many took up to each of these milliseconds, and last how many took longer. The bounds are those of
-- packages/core/src/histogram.ts.
create function histogram_bounds_ms() returns double precision[]
language sql immutable parallel safe as $$
  select array[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000]::double precision[]
$$;

create function add_histogram(total bigint[], counts integer[]) returns bigint[]
language sql immutable parallel safe as $$
  select array_agg(coalesce(a, 0) + coalesce(b, 0) order by ord)
  from unnest(total, counts) with ordinality as u (a, b, ord)
$$;

create aggregate sum_histograms(integer[]) (sfunc = add_histogram, stype = bigint[], initcond = '{}');

-- The share lies somewhere in a bucket: evenly spread over it, as Prometheus has it. Beyond the last bound it is that.
create function histogram_percentile(counts bigint[], share double precision) returns double precision
language sql immutable parallel safe as $$
  select case
    when upper_ms is null then lower_ms
    else round((lower_ms + (upper_ms - lower_ms) * (share * total - below) / count)::numeric, 1)::double precision
  end
  from (
    select
      count, ord,
      coalesce((histogram_bounds_ms())[ord - 1], 0) as lower_ms,
      (histogram_bounds_ms())[ord] as upper_ms,
      sum(count) over (order by ord) - count as below,
      sum(count) over (order by ord) as up_to,
      sum(count) over () as total
    from unnest(counts) with ordinality as c (count, ord)
  ) as buckets
  where count > 0 and up_to >= share * total
  order by ord
  limit 1
$$;

comment on function histogram_percentile is 'The time, in milliseconds, within which so large a share was done; null where nothing was counted.';

create table source_minutes (
  minute             timestamptz not null,
  source             text        not null,
  accepted           integer     not null,
  forged             integer     not null,
  unreadable         integer     not null,
  too_large          integer     not null,
  method_not_allowed integer     not null,
  unknown_source     integer     not null,
  not_durable        integer     not null,
  overloaded         integer     not null,
  client_gone        integer     not null,
  ack_ms             integer[]   not null
);

create index source_minutes_minute on source_minutes (minute);
create index source_minutes_source on source_minutes (source, minute);

comment on table source_minutes is 'Requests by source, minute and outcome. Several rows a minute, one for each report of each ingest: sum them, or read the view source_health. Pruned after 30 days.';
comment on column source_minutes.source is 'Empty for requests whose URL names no source, or has a wrong token.';
comment on column source_minutes.ack_ms is 'A histogram of the time from request to answer; see histogram_bounds_ms().';

create table source_states (
  source           text        not null,
  last_accepted_at timestamptz,
  refused_in_a_row bigint      not null default 0,
  last_refused_at  timestamptz,
  constraint source_states_pkey primary key (source)
);

comment on table source_states is 'How each source stands, as of the last report of each ingest.';
comment on column source_states.refused_in_a_row is 'Requests refused since the last one that was accepted.';

-- Appends what an ingest has counted. `counted` is an array of QueuedCounts (packages/core/src/callback.ts).
create function store_counts(counted json) returns void
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

  -- In the order of the names, so that two workers do not wait for each other; of one source, in the order of time.
  for report in
    select
      source, to_timestamp("lastAcceptedAt" / 1000) as accepted_at, "refusedInARow" as refused_in_a_row,
      to_timestamp("refusedSince" / 1000) as refused_since, to_timestamp("lastRefusedAt" / 1000) as refused_at
    from json_to_recordset(counted) as c (
      minute timestamptz, source text, "lastAcceptedAt" double precision, "refusedInARow" integer,
      "refusedSince" double precision, "lastRefusedAt" double precision
    )
    where source <> ''
    order by source, minute
  loop
    insert into source_states as s (source, last_accepted_at, refused_in_a_row, last_refused_at)
    values (report.source, report.accepted_at, report.refused_in_a_row, report.refused_at)
    -- Refusals before an acceptance that another ingest has reported are in no row any more.
    on conflict (source) do update set
      refused_in_a_row = case
        when report.accepted_at >= coalesce(s.last_accepted_at, '-infinity') then report.refused_in_a_row
        when report.refused_since >= coalesce(s.last_accepted_at, '-infinity') then s.refused_in_a_row + report.refused_in_a_row
        else s.refused_in_a_row
      end,
      last_accepted_at = greatest(s.last_accepted_at, report.accepted_at),
      last_refused_at = greatest(s.last_refused_at, report.refused_at);
  end loop;
end
$$;

create view source_health as
select
  m.source, m.minute, m.requests, m.accepted, m.forged, m.unreadable, m.too_large, m.method_not_allowed, m.unknown_source,
  m.not_durable, m.overloaded, m.client_gone,
  histogram_percentile(m.ack_ms, 0.5) as ack_ms_p50,
  histogram_percentile(m.ack_ms, 0.95) as ack_ms_p95,
  histogram_percentile(m.ack_ms, 0.99) as ack_ms_p99,
  s.refused_in_a_row as refused_in_a_row_now, s.last_accepted_at
from (
  select
    source, minute,
    sum(accepted + forged + unreadable + too_large + method_not_allowed + unknown_source + not_durable + overloaded + client_gone) as requests,
    sum(accepted) as accepted, sum(forged) as forged, sum(unreadable) as unreadable, sum(too_large) as too_large,
    sum(method_not_allowed) as method_not_allowed, sum(unknown_source) as unknown_source, sum(not_durable) as not_durable,
    sum(overloaded) as overloaded, sum(client_gone) as client_gone, sum_histograms(ack_ms) as ack_ms
  from source_minutes
  group by source, minute
) as m
left join source_states as s on s.source = m.source;

comment on view source_health is 'What comes in, by source and minute. Say "where minute > ...".';

create table delivery_minutes (
  minute      timestamptz not null,
  source      text        not null,
  type        text        not null,
  handler     text        not null,
  attempts    integer     not null,
  failures    integer     not null,
  dead        integer     not null,
  duration_ms integer[]   not null
);

create index delivery_minutes_minute on delivery_minutes (minute);
create index delivery_minutes_handler on delivery_minutes (handler, minute);

comment on table delivery_minutes is 'Attempts by minute, source, type and handler. Several rows a minute, one for each report of each worker: sum them, or read the view delivery_health. Pruned after 30 days. A worker that is killed takes the last 5 s with it.';
comment on column delivery_minutes.type is 'Empty also for types beyond the first thousand between two reports.';
comment on column delivery_minutes.dead is 'Attempts after which the delivery was a dead letter.';
comment on column delivery_minutes.duration_ms is 'A histogram of the time that attempts took; see histogram_bounds_ms().';

-- The state of destinations is joined once for each handler, not for each minute.
create view delivery_health as
with handlers as materialized (
  select
    handler, state, consecutive_failures,
    (
      select min(next_attempt_at) from deliveries where deliveries.handler = destinations.handler and status = 'pending'
    ) as oldest_pending_due_at
  from destinations
)
select
  m.source, m.type, m.handler, m.minute, m.attempts, m.failures,
  round(m.failures::numeric / m.attempts, 4) as failure_rate,
  m.dead,
  histogram_percentile(m.duration_ms, 0.5) as duration_ms_p50,
  histogram_percentile(m.duration_ms, 0.95) as duration_ms_p95,
  histogram_percentile(m.duration_ms, 0.99) as duration_ms_p99,
  h.state as destination_state_now, h.consecutive_failures as consecutive_failures_now,
  h.oldest_pending_due_at as oldest_pending_due_at_now
from (
  select
    source, type, handler, minute, sum(attempts) as attempts, sum(failures) as failures, sum(dead) as dead,
    sum_histograms(duration_ms) as duration_ms
  from delivery_minutes
  group by source, type, handler, minute
) as m
left join handlers as h on h.handler = m.handler;

comment on view delivery_health is 'What goes out, by source, type, handler and minute. Say "where minute > ...".';

create table alerts (
  id           uuid        not null default uuidv7(),
  key          text        not null,
  kind         text        not null,
  subject      text        not null,
  state        text        not null default 'open',
  raised_at    timestamptz not null default now(),
  resolved_at  timestamptz,
  last_seen_at timestamptz not null default now(),
  occurrences  bigint      not null,
  text         text        not null,
  details      jsonb       not null,
  constraint alerts_pkey primary key (id),
  constraint alerts_state_known check (state in ('open', 'resolved')),
  constraint alerts_resolved_has_time check ((state = 'resolved') = (resolved_at is not null))
);

create unique index alerts_one_open on alerts (key) where state = 'open';
create index alerts_raised_at on alerts (raised_at);

comment on table alerts is 'What was, or is, wrong. Each is one row from the moment it is raised until it is resolved.';
comment on column alerts.key is 'Kind and subject: of each at most one is open.';
comment on column alerts.occurrences is 'The most that were counted while it was open: failures in a row, dead letters, minutes; docs say which.';

-- Dead letters of one handler, newest first: counted every few seconds, up to a limit. Making the index reads deliveries
-- once and keeps them from changing meanwhile: about a second for each two million.
create index deliveries_dead_handler on deliveries (handler, finished_at) where status = 'dead';

create table unended_calls (
  source         text        not null,
  call_id        text        not null,
  first_event_at timestamptz not null,
  constraint unended_calls_pkey primary key (source, call_id)
);

comment on table unended_calls is 'Calls that should have ended by now: nothing says that they have. Forgotten after a day.';

create table call_watches (
  source        text        not null,
  watched_until timestamptz not null,
  constraint call_watches_pkey primary key (source)
);

comment on table call_watches is 'Up to which time of receipt the events of a source have been looked at for calls that did not end.';

create view call_timeline as
select
  call_id, source, type, occurred_at, received_at,
  occurred_at - lag(occurred_at) over (partition by source, call_id order by occurred_at, received_at, id) as gap,
  id as event_id
from events
where call_id is not null;

comment on view call_timeline is 'The events of a call in their order. Say "where call_id = ...".';
