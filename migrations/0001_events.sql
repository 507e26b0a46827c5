-- 0001: what is kept of a callback, and the one statement that stores a group of them.
--
-- Everything that grows is partitioned by week of the event's receipt (UTC), so that the time conditions which people
-- write prune, and retention is a dropped partition. No foreign keys lead to events: they would stop partitions from
-- being dropped.

create table events (
  id                uuid        not null,
  received_at       timestamptz not null,
  source            text        not null,
  account_id        text        not null,
  callback_id       text        not null,
  type              text        not null,
  call_id           text,
  verified_by       text        not null,
  occurred_at       timestamptz not null,
  stored_at         timestamptz not null default now(),
  payload           jsonb       not null,
  raw               bytea       not null,
  method            text        not null,
  url               text        not null,
  headers           jsonb       not null,
  duplicates        integer     not null default 0,
  last_duplicate_at timestamptz,
  -- In this order: people write "where id =", which is then an index lookup in each partition.
  constraint events_pkey primary key (id, received_at),
  constraint events_received_at_is_in_id check (uuid_extract_timestamp(id) = received_at),
  constraint events_verified_by_known check (verified_by in ('body', 'url', 'id', 'secret', 'none'))
) partition by range (received_at);

create index events_callback_id on events (callback_id);
create index events_source on events (source, received_at);
create index events_type on events (type, received_at);
create index events_call_id on events (call_id) where call_id is not null;

comment on table events is 'Each callback once, however often it came.';
comment on column events.id is 'UUIDv7 made when the request came in; its time is received_at.';
comment on column events.account_id is 'The configured account whose secret verified the callback, or empty.';
comment on column events.callback_id is 'The provider''s own id as text, with every digit.';
comment on column events.verified_by is 'What the proof covered: body, url, id (only the callback_id), secret (nothing: a shared secret came along), none.';
comment on column events.occurred_at is 'When the provider says it happened; the time of receipt where it says nothing.';
comment on column events.payload is 'What the provider sent for this callback. Text that jsonb refuses is replaced; raw keeps it.';
comment on column events.raw is 'The callback''s own bytes, an exact slice of the request, save for fields that the configuration drops.';
comment on column events.url is 'Path and query as requested, without the secret token.';
comment on column events.duplicates is 'How often it came again after the first time.';

create table event_names (
  source      text        not null,
  account_id  text        not null,
  callback_id text        not null,
  event_id    uuid        not null,
  received_at timestamptz not null,
  constraint event_names_pkey primary key (source, account_id, callback_id)
);

comment on table event_names is 'Which callbacks have been stored: a name here is an event stored once, for ever. Never updated, and outlives the event.';
comment on column event_names.received_at is 'Leads to the one partition that holds the event.';

create table duplicates (
  id                uuid        not null,
  event_id          uuid        not null,
  event_received_at timestamptz not null,
  received_at       timestamptz not null,
  content_hash      bytea       not null,
  changed           boolean     not null,
  raw               bytea,
  constraint duplicates_pkey primary key (event_id, id, event_received_at)
) partition by range (event_received_at);

create index duplicates_changed on duplicates (received_at) where changed;

comment on table duplicates is 'The first 100 repetitions of each event; events.duplicates counts them all.';
comment on column duplicates.content_hash is 'SHA-256 of the repetition''s bytes.';
comment on column duplicates.changed is 'The repetition has the event''s name and another content.';
comment on column duplicates.raw is 'The repetition''s bytes, only where it is changed.';

create table deliveries (
  id                 uuid        not null default uuidv7(),
  event_id           uuid        not null,
  event_received_at  timestamptz not null,
  handler            text        not null,
  status             text        not null default 'pending',
  attempts           integer     not null default 0,
  attempts_at_replay integer     not null default 0,
  next_attempt_at    timestamptz,
  lease_until        timestamptz,
  created_at         timestamptz not null default now(),
  finished_at        timestamptz,
  last_error         text,
  constraint deliveries_pkey primary key (id, event_received_at),
  constraint deliveries_one_per_event_and_handler unique (event_id, handler, event_received_at),
  constraint deliveries_status_known check (status in ('pending', 'succeeded', 'dead', 'canceled')),
  constraint deliveries_pending_is_scheduled check ((status = 'pending') = (next_attempt_at is not null))
) partition by range (event_received_at);

create index deliveries_due on deliveries (next_attempt_at) where status = 'pending';
create index deliveries_dead on deliveries (finished_at) where status = 'dead';

comment on table deliveries is 'One handler''s duty to act on one event.';
comment on column deliveries.attempts is 'Attempts begun, the running one included.';
comment on column deliveries.attempts_at_replay is 'Attempts before the last replay: the retry policy counts from there.';
comment on column deliveries.lease_until is 'Until then a queued job or a running attempt has it in hand.';

create table attempts (
  delivery_id       uuid        not null,
  event_received_at timestamptz not null,
  number            integer     not null,
  started_at        timestamptz not null default now(),
  duration_ms       integer,
  outcome           text,
  status_code       integer,
  error             text,
  response          text,
  constraint attempts_pkey primary key (delivery_id, number, event_received_at),
  constraint attempts_outcome_known check (outcome in ('succeeded', 'failed', 'abandoned'))
) partition by range (event_received_at);

comment on table attempts is 'Each run of a delivery, from its start.';
comment on column attempts.outcome is 'Null while it runs; abandoned when its worker was not heard of again.';

create table quarantine (
  id             uuid        not null,
  source         text        not null,
  reason         text        not null,
  received_at    timestamptz not null,
  method         text        not null,
  url            text        not null,
  remote_address text,
  headers        jsonb       not null,
  body           bytea       not null,
  callback_id    text,
  error          text,
  released_at    timestamptz,
  constraint quarantine_pkey primary key (id, received_at)
) partition by range (received_at);

create index quarantine_source on quarantine (source, received_at);

comment on table quarantine is 'Requests and callbacks that failed verification, could not be read or could not be stored.';
comment on column quarantine.body is 'The request''s body, or the bytes of the one callback that was refused.';
comment on column quarantine.error is 'What Postgres said, where a verified callback could not be stored.';

create table quarantine_dropped (
  recorded_at timestamptz not null default now(),
  source      text        not null,
  reason      text        not null,
  count       integer     not null
);

create index quarantine_dropped_recorded_at on quarantine_dropped (recorded_at);

comment on table quarantine_dropped is 'Refusals beyond a source''s allowance, and bodies over the size limit: only counted. Sum the counts.';

create table store_groups (
  id        uuid        not null,
  stored_at timestamptz not null default now(),
  constraint store_groups_pkey primary key (id)
);

create index store_groups_stored_at on store_groups (stored_at);

comment on table store_groups is 'Groups that have been stored: one that comes again changes nothing. Pruned after a week.';

-- Partitions are attached, not created in place, for that locks out nobody who reads or writes the table.
create function ensure_partitions(from_time timestamptz, to_time timestamptz) returns void
language plpgsql as $$
declare
  parent text;
  week timestamptz;
  partition_name text;
begin
  perform pg_advisory_xact_lock(hashtext('ringback.ensure_partitions'));
  foreach parent in array array['events', 'duplicates', 'deliveries', 'attempts', 'quarantine'] loop
    for week in select generate_series(date_trunc('week', from_time, 'UTC'), to_time, interval '7 days', 'UTC') loop
      partition_name := format('%s_%s', parent, to_char(week at time zone 'UTC', 'IYYY"w"IW'));
      continue when to_regclass(partition_name) is not null;
      execute format('create table %I (like %I including all)', partition_name, parent);
      execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parent, partition_name, week, week + interval '7 days');
    end loop;
  end loop;
end
$$;

comment on function ensure_partitions is 'Makes the weekly partitions that cover the given times, where they are missing.';

-- Two payloads under one name have the same content if they differ at most in how they spell that name.
create function same_content(a jsonb, b jsonb) returns boolean
language sql immutable as $$
  select a = b or (jsonb_typeof(a) = 'object' and jsonb_typeof(b) = 'object' and a - 'callback_id' = b - 'callback_id')
$$;

-- Stores what a group holds; the arrays are those of packages/core/src/callback.ts, StoreJob. New callbacks become
-- events with their deliveries, known names are counted as duplicates, refusals go to quarantine. `matched` holds
-- [callback id, handler] pairs. Sequential scans are off because the plans of this function are made when the tables are
-- small, and kept.
create function store_callbacks(callbacks json, quarantined json, dropped json, matched json) returns json
language plpgsql set enable_seqscan = off as $$
declare
  stored integer;
  created json;
  repeated uuid[];
  repetition record;
  known record;
begin
  with input as materialized (
    select
      ord, id, uuid_extract_timestamp(id) as received_at, source, "accountId" as account_id, "callbackId" as callback_id,
      type, "callId" as call_id, "verifiedBy" as verified_by, "occurredAt" as occurred_at, method, url, headers,
      decode(raw, 'base64') as raw, payload
    from rows from (json_to_recordset(callbacks) as (
      id uuid, source text, "accountId" text, "callbackId" text, type text, "callId" text, "verifiedBy" text,
      "occurredAt" timestamptz, method text, url text, headers jsonb, raw text, payload text
    )) with ordinality as c (
      id, source, "accountId", "callbackId", type, "callId", "verifiedBy", "occurredAt", method, url, headers, raw, payload, ord
    )
  ),
  -- One name may come twice in one group: the first of them is the event.
  candidates as materialized (
    select distinct on (source, account_id, callback_id) *
    from input
    order by source, account_id, callback_id, ord
  ),
  -- In the order of the names: two workers whose groups share names would otherwise wait for each other.
  claimed as (
    insert into event_names (source, account_id, callback_id, event_id, received_at)
    select source, account_id, callback_id, id, received_at
    from candidates
    order by source, account_id, callback_id
    on conflict do nothing
    returning event_id
  ),
  new_events as (
    insert into events (
      id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, method, url, headers, raw, payload
    )
    select
      id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, method, url, headers, raw,
      coalesce(payload, convert_from(raw, 'UTF8'))::jsonb
    from candidates
    where id in (select event_id from claimed)
  ),
  -- Leased to the worker that stores them, which is about to enqueue them: the scanner takes over if it dies.
  new_deliveries as (
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at, lease_until)
    select event_id, uuid_extract_timestamp(event_id), handler, now(), now() + interval '30 seconds'
    from (select (pair ->> 0)::uuid as event_id, pair ->> 1 as handler from json_array_elements(matched) as pair) as pairs
    where event_id in (select event_id from claimed)
    returning id, handler, event_received_at
  )
  select
    (select count(*) from claimed),
    (select coalesce(json_agg(json_build_object('id', id, 'handler', handler, 'receivedAt', event_received_at)), '[]') from new_deliveries),
    (select array_agg(id) from input where id not in (select event_id from claimed))
  into stored, created, repeated;

  -- What follows is seldom needed, and reading the JSON texts for nothing costs as much as storing events.

  -- A second statement, to see names that another worker has claimed since the first one began. In the order of the
  -- events, again so that two workers do not wait for each other.
  if repeated is not null then
    for repetition in
      select
        r.id, uuid_extract_timestamp(r.id) as received_at, decode(r.raw, 'base64') as raw, r.payload,
        n.event_id, n.received_at as event_received_at
      from json_to_recordset(callbacks) as r (
        id uuid, source text, "accountId" text, "callbackId" text, raw text, payload text
      )
      join event_names as n on (n.source, n.account_id, n.callback_id) = (r.source, r."accountId", r."callbackId")
      where r.id = any (repeated)
      order by n.event_id, r.id
    loop
      update events
      set duplicates = events.duplicates + 1, last_duplicate_at = greatest(last_duplicate_at, repetition.received_at)
      where id = repetition.event_id and received_at = repetition.event_received_at
      returning duplicates, raw, payload into known;
      continue when not found or known.duplicates > 100; -- not found: the name has outlived its event
      insert into duplicates (id, event_id, event_received_at, received_at, content_hash, changed, raw)
      select
        repetition.id, repetition.event_id, repetition.event_received_at, repetition.received_at, sha256(repetition.raw),
        changed, case when changed then repetition.raw end
      from (
        select known.raw <> repetition.raw
          and not same_content(known.payload, coalesce(repetition.payload, convert_from(repetition.raw, 'UTF8'))::jsonb) as changed
      ) as compared;
    end loop;
  end if;

  if quarantined::text <> '[]' then
    insert into quarantine (id, source, reason, received_at, method, url, remote_address, headers, body, callback_id, error)
    select
      id, source, reason, uuid_extract_timestamp(id), method, url, "remoteAddress", headers, decode(body, 'base64'), "callbackId", error
    from json_to_recordset(quarantined) as (
      id uuid, source text, reason text, method text, url text, "remoteAddress" text, headers jsonb, body text, "callbackId" text, error text
    );
  end if;

  if dropped::text <> '[]' then
    insert into quarantine_dropped (source, reason, count)
    select source, reason, count
    from json_to_recordset(dropped) as (source text, reason text, count integer);
  end if;

  return json_build_object('stored', stored, 'duplicates', coalesce(cardinality(repeated), 0), 'deliveries', created);
end
$$;

-- The same, once for each group: null if this group was stored before.
create function store_group(group_id uuid, callbacks json, quarantined json, dropped json, matched json) returns json
language plpgsql as $$
begin
  insert into store_groups (id) values (group_id) on conflict do nothing;
  if not found then
    return null;
  end if;
  return store_callbacks(callbacks, quarantined, dropped, matched);
end
$$;

-- For people and their tools: may read everything and change nothing. Roles belong to the whole server, so it may be
-- there already, or be for somebody else to create.
do $$
begin
  create role ringback_reader nologin;
exception
  when duplicate_object or unique_violation or insufficient_privilege then null;
end
$$;

do $$
begin
  grant usage on schema public to ringback_reader;
  grant select on all tables in schema public to ringback_reader;
  alter default privileges in schema public grant select on tables to ringback_reader;
exception
  when undefined_object then
    raise notice 'There is no role ringback_reader, and this user may not create it; see docs/sql.md';
end
$$;
