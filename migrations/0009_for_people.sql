-- 0009: for people who ask by SQL: counts by day, views, and what every column means.

-- Counts by day. Each group appends a row or so in its own transaction, so that they are exact whatever is killed; the
-- workers fold those into event_counts every minute. A row for each day that groups update would make them wait for each
-- other's commit.
create table event_counts_appended (
  day        date   not null,
  source     text   not null,
  account_id text   not null,
  type       text   not null,
  events     bigint not null,
  duplicates bigint not null
);

create table event_counts (
  day        date   not null,
  source     text   not null,
  account_id text   not null,
  type       text   not null,
  events     bigint not null,
  duplicates bigint not null,
  constraint event_counts_pkey primary key (day, source, account_id, type)
);

comment on table event_counts_appended is 'What each group has added to event_counts, until it is folded into it. Ask the view daily_counts.';
comment on table event_counts is 'Events and duplicates by day, save for the last minute or so. Ask the view daily_counts. Outlives the events.';

-- As in 0005, with the counts.
create or replace function store_callbacks(callbacks json, quarantined json, dropped json, matched json, look_at_names boolean) returns json
language plpgsql set enable_seqscan = off as $$
declare
  reused uuid[];
  stored integer;
  created json;
  repeated uuid[];
  repetition record;
  known record;
begin
  if look_at_names then
    reused := claim_nonces(callbacks);
    if reused is not null then
      quarantined := (
        select json_agg(refusal)
        from (
          select refusal from json_array_elements(quarantined) as refusal
          union all
          select json_build_object(
            'id', c ->> 'id', 'source', c ->> 'source', 'reason', 'nonce_reused', 'scope', 'callback', 'method', c ->> 'method',
            'url', c ->> 'url', 'headers', c -> 'headers', 'body', c ->> 'raw', 'callbackId', c ->> 'callbackId'
          )
          from json_array_elements(callbacks) as c
          where (c ->> 'id')::uuid = any (reused)
        ) as refusals
      );
      callbacks := (
        select coalesce(json_agg(c), '[]') from json_array_elements(callbacks) as c where (c ->> 'id')::uuid <> all (reused)
      );
    end if;
    callbacks := with_names_of_window(callbacks);
  end if;

  with input as materialized (
    select
      ord, id, uuid_extract_timestamp(id) as received_at, source, "accountId" as account_id, "callbackId" as callback_id,
      type, "callId" as call_id, "verifiedBy" as verified_by, "occurredAt" as occurred_at, method, url, headers,
      decode(raw, 'base64') as raw, payload, secret, "wouldRefuse" as would_refuse,
      traceparent
    from rows from (json_to_recordset(callbacks) as (
      id uuid, source text, "accountId" text, "callbackId" text, type text, "callId" text, "verifiedBy" text,
      "occurredAt" timestamptz, method text, url text, headers jsonb, raw text, payload text, secret smallint, "wouldRefuse" text,
      traceparent text
    )) with ordinality as c (
      id, source, "accountId", "callbackId", type, "callId", "verifiedBy", "occurredAt", method, url, headers, raw, payload,
      secret, "wouldRefuse", traceparent, ord
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
      id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, method, url, headers, raw, payload,
      secret, would_refuse, traceparent
    )
    select
      id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, method, url, headers, raw,
      coalesce(payload, convert_from(raw, 'UTF8'))::jsonb, secret, would_refuse, traceparent
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
  ),
  counted as (
    insert into event_counts_appended (day, source, account_id, type, events, duplicates)
    select (received_at at time zone 'UTC')::date, source, account_id, type, count(*), 0
    from candidates
    where id in (select event_id from claimed)
    group by 1, 2, 3, 4
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

    insert into event_counts_appended (day, source, account_id, type, events, duplicates)
    select (uuid_extract_timestamp(id) at time zone 'UTC')::date, source, "accountId", type, 0, count(*)
    from json_to_recordset(callbacks) as c (id uuid, source text, "accountId" text, type text)
    where id = any (repeated)
    group by 1, 2, 3, 4;
  end if;

  if quarantined::text <> '[]' then
    insert into quarantine (
      id, source, reason, received_at, method, url, remote_address, headers, body, callback_id, error, scope
    )
    select
      id, source, reason, uuid_extract_timestamp(id), method, url, "remoteAddress", headers, decode(body, 'base64'), "callbackId", error, scope
    from json_to_recordset(quarantined) as (
      id uuid, source text, reason text, method text, url text, "remoteAddress" text, headers jsonb, body text, "callbackId" text,
      error text, scope text
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

-- Any number of workers may fold at once: one does, the others have nothing to do. Rows that are appended meanwhile are
-- left for the next time.
create function fold_event_counts() returns bigint
language plpgsql as $$
declare
  folded bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('ringback.fold_event_counts')) then
    return 0;
  end if;
  with taken as (
    delete from event_counts_appended returning *
  ),
  added as (
    insert into event_counts as c (day, source, account_id, type, events, duplicates)
    select day, source, account_id, type, sum(events), sum(duplicates)
    from taken
    group by 1, 2, 3, 4
    on conflict (day, source, account_id, type) do update set
      events = c.events + excluded.events, duplicates = c.duplicates + excluded.duplicates
  )
  select count(*) from taken into folded;
  return folded;
end
$$;

comment on function fold_event_counts is 'Moves what groups have appended into event_counts; returns how many rows it moved.';

-- What is stored already, counted once: this reads events, about a second for each million.
insert into event_counts (day, source, account_id, type, events, duplicates)
select (received_at at time zone 'UTC')::date, source, account_id, type, count(*), sum(duplicates)
from events
group by 1, 2, 3, 4;

create view daily_counts as
select day, source, account_id, type, sum(events)::bigint as events, sum(duplicates)::bigint as duplicates
from (
  select day, source, account_id, type, events, duplicates from event_counts
  union all
  select day, source, account_id, type, events, duplicates from event_counts_appended
) as counts
group by day, source, account_id, type;

-- The upper bound leaves out the partitions of the weeks to come; an hour is for a clock that is ahead.
create view events_recent as
select
  received_at, source, account_id, type, call_id, callback_id, occurred_at, verified_by, duplicates, payload, id as event_id
from events
where received_at > now() - interval '1 day' and received_at < now() + interval '1 hour';

create view last_event_of_call as
select distinct on (call_id, source)
  call_id, source, type, occurred_at, received_at, payload, id as event_id
from events
where call_id is not null
order by call_id, source, occurred_at desc, received_at desc, id desc;

-- The bytes of a repetition as jsonb: JSON, or a form's fields as an object, as ingest makes a payload of them.
create function payload_of_raw(raw bytea) returns jsonb
language plpgsql immutable as $$
declare
  content text;
begin
  content := convert_from(raw, 'UTF8');
  if pg_input_is_valid(content, 'jsonb') then
    return content::jsonb;
  end if;
  return (
    select jsonb_object_agg(decode_form_text(split_part(pair, '=', 1)), decode_form_text(substring(pair from '=(.*)$')))
    from regexp_split_to_table(content, '&') as pair
    where pair <> ''
  );
exception
  when data_exception then return null; -- no UTF-8, or a field that jsonb refuses
end
$$;

comment on function payload_of_raw is 'The bytes of a callback as jsonb, where they are JSON or a form; null where they are neither.';

create function decode_form_text(encoded text) returns text
language sql immutable as $$
  select convert_from(coalesce(string_agg(
    case when part like '\%__' then decode(substr(part, 2), 'hex') else convert_to(part, 'UTF8') end, ''::bytea order by ord
  ), ''), 'UTF8')
  from regexp_matches(replace(encoded, '+', ' '), '(%[0-9a-fA-F]{2}|[^%]+|%)', 'g') with ordinality as m (match, ord),
    unnest(match) as part
$$;

comment on function decode_form_text is 'A text of application/x-www-form-urlencoded as it was before.';

create function json_changes(before jsonb, after jsonb) returns jsonb
language sql immutable as $$
  select jsonb_object_agg(name, jsonb_build_array(before -> name, after -> name))
  from (select jsonb_object_keys(before) union select jsonb_object_keys(after)) as names (name)
  where jsonb_typeof(before) = 'object' and jsonb_typeof(after) = 'object' and before -> name is distinct from after -> name
$$;

comment on function json_changes is 'The fields of two objects that differ, each with what it was and what it became; null where neither is an object, or nothing differs.';

create view changed_duplicates as
select
  d.received_at, e.source, e.type, e.call_id, e.callback_id,
  json_changes(e.payload, payload_of_raw(d.raw)) as changes,
  e.received_at as first_received_at, e.payload as first_payload, payload_of_raw(d.raw) as payload, d.raw, e.id as event_id
from duplicates as d
join events as e on e.id = d.event_id and e.received_at = d.event_received_at
where d.changed;

-- What everything means, where it was not said yet.

comment on column alerts.id is 'UUIDv7, made when it was raised.';
comment on column alerts.kind is 'What is wrong, such as dead_letters; docs/monitoring.md describes each.';
comment on column alerts.subject is 'Of which handler or source; empty where it is of neither.';
comment on column alerts.state is 'open, or resolved.';
comment on column alerts.raised_at is 'When it was noticed.';
comment on column alerts.resolved_at is 'When it was noticed that it was over; null while it is open.';
comment on column alerts.last_seen_at is 'When it was last still so.';
comment on column alerts.text is 'One sentence for people.';
comment on column alerts.details is 'What else is known, by kind.';

comment on column attempts.delivery_id is 'The delivery that it was made for.';
comment on column attempts.event_received_at is 'Of the delivery''s event: leads to the one partition.';
comment on column attempts.number is 'From 1 up, over all replays.';
comment on column attempts.started_at is 'When it began.';
comment on column attempts.duration_ms is 'How long it took; null while it runs.';
comment on column attempts.status_code is 'What the destination answered, where it speaks HTTP.';
comment on column attempts.error is 'Why it failed.';
comment on column attempts.response is 'The beginning of what the destination answered, where it is kept.';

comment on column call_timeline.call_id is 'The provider''s id of the call.';
comment on column call_timeline.source is 'The source that the event came by.';
comment on column call_timeline.type is 'The event''s type.';
comment on column call_timeline.occurred_at is 'When the provider says it happened.';
comment on column call_timeline.received_at is 'When it came in.';
comment on column call_timeline.gap is 'The time since the event before it in the same call.';
comment on column call_timeline.event_id is 'Leads to events.id.';

comment on column call_watches.source is 'The source.';
comment on column call_watches.watched_until is 'Events received up to then have been looked at.';

comment on view changed_duplicates is 'Callbacks that came again with their name and another content, and what was different. Say "where received_at > ...".';
comment on column changed_duplicates.received_at is 'When the repetition came in.';
comment on column changed_duplicates.source is 'The source that both came by.';
comment on column changed_duplicates.type is 'The event''s type.';
comment on column changed_duplicates.call_id is 'The provider''s id of the call, if there is one.';
comment on column changed_duplicates.callback_id is 'The name that both have.';
comment on column changed_duplicates.changes is 'The fields that differ: each with its value in the event and in the repetition; null is a field that was not there.';
comment on column changed_duplicates.first_received_at is 'When the event itself came in.';
comment on column changed_duplicates.first_payload is 'What was stored, and handled.';
comment on column changed_duplicates.payload is 'What came again; null where its bytes are neither JSON nor a form.';
comment on column changed_duplicates.raw is 'The repetition''s bytes.';
comment on column changed_duplicates.event_id is 'Leads to events.id.';

comment on view daily_counts is 'Events and duplicates by day. Exact, up to the last group stored, and never a count of the events themselves. Outlives them.';
comment on column daily_counts.day is 'The day of receipt, UTC.';
comment on column daily_counts.source is 'The source.';
comment on column daily_counts.account_id is 'The configured account, or empty.';
comment on column daily_counts.type is 'The type of the events.';
comment on column daily_counts.events is 'Callbacks stored for the first time on that day.';
comment on column daily_counts.duplicates is 'Callbacks that came again on that day, whenever they first came.';

comment on column deliveries.id is 'UUIDv7, made when the event was stored.';
comment on column deliveries.event_id is 'Leads to events.id.';
comment on column deliveries.event_received_at is 'The event''s received_at: leads to the one partition.';
comment on column deliveries.handler is 'Its name in the configuration.';
comment on column deliveries.status is 'pending, succeeded, dead (not tried again by itself) or canceled.';
comment on column deliveries.next_attempt_at is 'When it is tried next; only while pending.';
comment on column deliveries.created_at is 'When the event was stored.';
comment on column deliveries.finished_at is 'When it succeeded, was given up or was canceled.';
comment on column deliveries.last_error is 'Why the last attempt that failed did so.';

comment on column delivery_health.source is 'The source of the events.';
comment on column delivery_health.type is 'The type of the events.';
comment on column delivery_health.handler is 'The handler.';
comment on column delivery_health.minute is 'The minute in which the attempts ended.';
comment on column delivery_health.attempts is 'Attempts that ended.';
comment on column delivery_health.failures is 'Of them failed.';
comment on column delivery_health.failure_rate is 'failures / attempts, from 0 to 1.';
comment on column delivery_health.dead is 'Attempts after which the delivery was a dead letter.';
comment on column delivery_health.duration_ms_p50 is 'Half of the attempts took at most so long.';
comment on column delivery_health.duration_ms_p95 is '95 % of them took at most so long.';
comment on column delivery_health.duration_ms_p99 is '99 % of them took at most so long.';
comment on column delivery_health.destination_state_now is 'The breaker of the handler''s destination, now.';
comment on column delivery_health.consecutive_failures_now is 'Failures in a row at that destination, now.';
comment on column delivery_health.oldest_pending_due_at_now is 'When the first of the handler''s pending deliveries is, or was, due.';

comment on column delivery_minutes.minute is 'In which the attempts ended.';
comment on column delivery_minutes.source is 'The source of the events.';
comment on column delivery_minutes.handler is 'The handler.';
comment on column delivery_minutes.attempts is 'Attempts that ended.';
comment on column delivery_minutes.failures is 'Of them failed.';

comment on column destinations.handler is 'Its name in the configuration.';
comment on column destinations.state_since is 'Since when the state is what it is.';
comment on column destinations.open_until is 'Until then nothing is sent; where the breaker is open.';
comment on column destinations.window_started_at is 'When the breaker began to count.';
comment on column destinations.window_attempts is 'Attempts since then.';
comment on column destinations.window_failures is 'Failures since then.';
comment on column destinations.consecutive_failures is 'Failures since the last success.';
comment on column destinations.tokens_at is 'When tokens was last counted.';
comment on column destinations.last_success_at is 'When an attempt last succeeded.';
comment on column destinations.last_failure_at is 'When an attempt last failed.';
comment on column destinations.last_error is 'Why.';

comment on column duplicates.id is 'UUIDv7 of the repetition.';
comment on column duplicates.event_id is 'Leads to events.id.';
comment on column duplicates.event_received_at is 'The event''s received_at: leads to the one partition.';
comment on column duplicates.received_at is 'When the repetition came in.';

comment on column event_counts.day is 'The day of receipt, UTC.';
comment on column event_counts.source is 'The source.';
comment on column event_counts.account_id is 'The configured account, or empty.';
comment on column event_counts.type is 'The type of the events.';
comment on column event_counts.events is 'Callbacks stored for the first time on that day.';
comment on column event_counts.duplicates is 'Callbacks that came again on that day.';

comment on column event_counts_appended.day is 'The day of receipt, UTC.';
comment on column event_counts_appended.source is 'The source.';
comment on column event_counts_appended.account_id is 'The configured account, or empty.';
comment on column event_counts_appended.type is 'The type of the events.';
comment on column event_counts_appended.events is 'Callbacks that one group stored for the first time.';
comment on column event_counts_appended.duplicates is 'Callbacks in that group that had come before.';

comment on column event_names.source is 'The source; names belong to it.';
comment on column event_names.account_id is 'The account; names belong to it.';
comment on column event_names.callback_id is 'The name.';
comment on column event_names.event_id is 'The event that has it: events.id.';

comment on column events.received_at is 'When its request came in. Say a time of it, and only those weeks are read.';
comment on column events.source is 'The configured source: the slug in the URL.';
comment on column events.type is 'What happened, in the provider''s own word.';
comment on column events.call_id is 'The provider''s id of the call that it belongs to, if it says one.';
comment on column events.stored_at is 'When the worker stored it.';
comment on column events.method is 'The request''s method.';
comment on column events.headers is 'The headers worth keeping, credentials as digests only.';
comment on column events.last_duplicate_at is 'When it last came again.';

comment on view events_recent is 'The events of the last day, with the columns that people ask for first.';
comment on column events_recent.received_at is 'When its request came in.';
comment on column events_recent.source is 'The configured source.';
comment on column events_recent.account_id is 'The configured account, or empty.';
comment on column events_recent.type is 'What happened, in the provider''s own word.';
comment on column events_recent.call_id is 'The provider''s id of the call, if there is one.';
comment on column events_recent.callback_id is 'The provider''s own id of the callback.';
comment on column events_recent.occurred_at is 'When the provider says it happened.';
comment on column events_recent.verified_by is 'What the proof covered: body, url, id, secret or none.';
comment on column events_recent.duplicates is 'How often it came again.';
comment on column events_recent.payload is 'What the provider sent.';
comment on column events_recent.event_id is 'Leads to events.id.';

comment on view last_event_of_call is 'Where each call stands: its last event. Say "where call_id = ...".';
comment on column last_event_of_call.call_id is 'The provider''s id of the call.';
comment on column last_event_of_call.source is 'The source that it came by.';
comment on column last_event_of_call.type is 'The type of the last event.';
comment on column last_event_of_call.occurred_at is 'When the provider says it happened; by this the last is the last.';
comment on column last_event_of_call.received_at is 'When it came in.';
comment on column last_event_of_call.payload is 'What the provider sent.';
comment on column last_event_of_call.event_id is 'Leads to events.id.';

comment on column nonces.source is 'The source; nonces belong to it.';
comment on column nonces.nonce is 'As the signature had it.';
comment on column nonces.received_at is 'When it first came.';

comment on column quarantine.id is 'UUIDv7 whose time is received_at.';
comment on column quarantine.source is 'The source whose URL was asked.';
comment on column quarantine.reason is 'Why it was refused, such as signature_mismatch.';
comment on column quarantine.received_at is 'When the request came in.';
comment on column quarantine.method is 'The request''s method.';
comment on column quarantine.url is 'Path and query as requested, without the secret token.';
comment on column quarantine.remote_address is 'Who asked, as far as trusted proxies tell.';
comment on column quarantine.headers is 'The headers worth keeping: signatures as they came, credentials as digests only.';
comment on column quarantine.callback_id is 'The name of the callback, where it could be read.';
comment on column quarantine.released_at is 'When it was let in after all.';

comment on column quarantine_dropped.recorded_at is 'When they were counted.';
comment on column quarantine_dropped.source is 'The source.';
comment on column quarantine_dropped.reason is 'Why they were refused.';
comment on column quarantine_dropped.count is 'How many.';

comment on table ringback_migrations is 'The migrations that this database has.';
comment on column ringback_migrations.name is 'The file in migrations/.';
comment on column ringback_migrations.applied_at is 'When it was applied.';

comment on column source_health.source is 'The source; empty for requests that named none.';
comment on column source_health.minute is 'The minute of the requests.';
comment on column source_health.requests is 'All of them.';
comment on column source_health.accepted is 'Answered 200.';
comment on column source_health.forged is 'Refused: no proof, or a wrong one.';
comment on column source_health.unreadable is 'Refused: not what the provider sends.';
comment on column source_health.too_large is 'Refused: a body over the limit.';
comment on column source_health.method_not_allowed is 'Refused: another method.';
comment on column source_health.unknown_source is 'Refused: no such source, or a wrong token.';
comment on column source_health.not_durable is 'Answered 503: the queue did not take them.';
comment on column source_health.overloaded is 'Answered 503: too much at once.';
comment on column source_health.client_gone is 'The client hung up before its answer.';
comment on column source_health.ack_ms_p50 is 'Half of the requests were answered within so many milliseconds.';
comment on column source_health.ack_ms_p95 is '95 % of them were answered within so many.';
comment on column source_health.ack_ms_p99 is '99 % of them were answered within so many.';
comment on column source_health.refused_in_a_row_now is 'Requests refused since the last one that was accepted, now.';
comment on column source_health.last_accepted_at is 'When a request was last accepted.';

comment on column source_minutes.minute is 'The minute of the requests.';
comment on column source_minutes.accepted is 'Answered 200.';
comment on column source_minutes.forged is 'Refused: no proof, or a wrong one.';
comment on column source_minutes.unreadable is 'Refused: not what the provider sends.';
comment on column source_minutes.too_large is 'Refused: a body over the limit.';
comment on column source_minutes.method_not_allowed is 'Refused: another method.';
comment on column source_minutes.unknown_source is 'Refused: no such source, or a wrong token.';
comment on column source_minutes.not_durable is 'Answered 503: the queue did not take them.';
comment on column source_minutes.overloaded is 'Answered 503: too much at once.';
comment on column source_minutes.client_gone is 'The client hung up before its answer.';

comment on column source_states.source is 'The source.';
comment on column source_states.last_accepted_at is 'When a request was last accepted.';
comment on column source_states.last_refused_at is 'When a request was last refused.';

comment on column store_groups.id is 'The group''s own id, made by ingest.';
comment on column store_groups.stored_at is 'When it was stored.';

comment on column unended_calls.source is 'The source.';
comment on column unended_calls.call_id is 'The provider''s id of the call.';
comment on column unended_calls.first_event_at is 'When its first event came in.';

-- What is kept has the columns of what it was copied from, and the partitions there are have those of their tables.
do $$
declare
  same record;
begin
  for same in
    select a.attname, col_description(a.attrelid, a.attnum) as text, copy.relname
    from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    join pg_class as copy on copy.oid = to_regclass('kept_' || c.relname)
      or copy.oid in (select inhrelid from pg_inherits where inhparent = c.oid)
    where c.relname in ('events', 'duplicates', 'deliveries', 'attempts', 'quarantine') and c.relkind = 'p'
      and c.relnamespace = current_schema()::regnamespace and a.attnum > 0 and not a.attisdropped
  loop
    execute format('comment on column %I.%I is %L', same.relname, same.attname, same.text);
  end loop;
end
$$;

-- For databases whose default privileges were changed meanwhile, or that another user migrated before.
do $$
begin
  grant select on all tables in schema public to ringback_reader;
exception
  when undefined_object then null; -- 0001 has said so
end
$$;
