-- 0024: what one sender sends thousands of at once, copies of one callback or types, delays nobody else. Replaces four functions, and
-- changes no table.

-- As in 0010, but an event is updated once for all its repetitions: each update passes the row's versions of those before it in
-- the transaction, so that a request of 10,000 copies of one callback took 14 s.
create or replace function store_callbacks(callbacks json, quarantined json, dropped json, matched json, look_at_names boolean) returns json
language plpgsql as $$
declare
  reused uuid[];
  new_ids uuid[];
  received bigint;
  created json := '[]';
  repeated uuid[];
  repetition record;
  known record;
  is_there boolean;
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
    returning received_at, source, account_id, type
  ),
  counted as (
    insert into event_counts_appended (day, source, account_id, type, events, duplicates)
    select (received_at at time zone 'UTC')::date, source, account_id, type, count(*), 0
    from new_events
    group by 1, 2, 3, 4
  )
  select
    (select coalesce(array_agg(event_id), '{}') from claimed),
    (select count(*) from input)
  into new_ids, received;

  if received > cardinality(new_ids) then
    repeated := (select array_agg(id) from json_to_recordset(callbacks) as c (id uuid) where id <> all (new_ids));
  end if;

  -- Leased to the worker that stores them, which is about to enqueue them: the scanner takes over if it dies.
  if matched::text <> '[]' then
    with new_deliveries as (
      insert into deliveries (event_id, event_received_at, handler, next_attempt_at, lease_until)
      select event_id, uuid_extract_timestamp(event_id), handler, now(), now() + interval '30 seconds'
      from (select (pair ->> 0)::uuid as event_id, pair ->> 1 as handler from json_array_elements(matched) as pair) as pairs
      where event_id = any (new_ids)
      returning id, handler, event_received_at
    )
    select coalesce(json_agg(json_build_object('id', id, 'handler', handler, 'receivedAt', event_received_at)), '[]')
    from new_deliveries
    into created;
  end if;

  -- What follows is seldom needed, and reading the JSON texts for nothing costs as much as storing events.

  -- A second statement, to see names that another worker has claimed since the first one began. In the order of the
  -- events, again so that two workers do not wait for each other.
  if repeated is not null then
    for repetition in
      select
        r.id, uuid_extract_timestamp(r.id) as received_at, decode(r.raw, 'base64') as raw, r.payload,
        n.event_id, n.received_at as event_received_at, row_number() over own as number, count(*) over event as count,
        max(uuid_extract_timestamp(r.id)) over event as last_received_at
      from json_to_recordset(callbacks) as r (
        id uuid, source text, "accountId" text, "callbackId" text, raw text, payload text
      )
      join event_names as n on (n.source, n.account_id, n.callback_id) = (r.source, r."accountId", r."callbackId")
      where r.id = any (repeated)
      window event as (partition by n.event_id), own as (partition by n.event_id order by r.id)
      order by n.event_id, r.id
    loop
      if repetition.number = 1 then
        update events
        set
          duplicates = events.duplicates + repetition.count,
          last_duplicate_at = greatest(last_duplicate_at, repetition.last_received_at)
        where id = repetition.event_id and received_at = repetition.event_received_at
        returning duplicates - repetition.count as duplicates_before, raw, payload into known;
        is_there := found; -- or the name has outlived its event
      end if;
      continue when not is_there or known.duplicates_before + repetition.number > 100;
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

  return json_build_object('stored', cardinality(new_ids), 'duplicates', coalesce(cardinality(repeated), 0), 'deliveries', created);
end
$$;

-- As in 0009, but at most 10,000 rows at a time. Where every callback has a type of its own, those of a minute may be more than
-- one statement can move within its time limit, and nothing was ever moved again.
create or replace function fold_event_counts() returns bigint
language plpgsql as $$
declare
  folded bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('ringback.fold_event_counts')) then
    return 0;
  end if;
  with taken as (
    delete from event_counts_appended
    where ctid = any (array(select ctid from event_counts_appended limit 10000))
    returning *
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

comment on function fold_event_counts is 'Moves up to 10,000 rows that groups have appended into event_counts; returns how many.';

-- As in 0015, but each nonce is looked up by itself: a join read all nonces of a source for each callback if it was planned while
-- the table was small, as in the first minutes of an installation.
create or replace function claim_nonces(callbacks json) returns uuid[]
language plpgsql as $$
begin
  -- In the order of the nonces, so that two workers do not wait for each other; of one nonce the first callback.
  insert into nonces (source, nonce, content_hash, received_at, claimed_by, account_id, callback_id)
  select distinct on (source, nonce)
    source, used.nonce, sha256(decode(raw, 'base64')), uuid_extract_timestamp(id), id, "accountId", "callbackId"
  from rows from (
      json_to_recordset(callbacks) as (id uuid, source text, "accountId" text, "callbackId" text, nonces json, raw text)
    ) with ordinality as c (id, source, "accountId", "callbackId", nonces, raw, ord),
    json_array_elements_text(nonces) as used (nonce)
  order by source, nonce, ord
  on conflict do nothing;
  return (
    select array_agg(distinct c.id)
    from json_to_recordset(callbacks) as c (id uuid, source text, nonces json, raw text),
      json_array_elements_text(c.nonces) as used (nonce)
    where (
      select n.content_hash from nonces as n where n.source = c.source and n.nonce = used.nonce
    ) <> sha256(decode(c.raw, 'base64'))
  );
end
$$;

create or replace function with_names_of_nonces(callbacks json) returns json
language plpgsql as $$
declare
  callback record;
  known record;
  names jsonb := '{}';
begin
  -- Looking for the word costs less than reading the JSON.
  if position('"nonces":' in callbacks::text) = 0 then
    return callbacks;
  end if;
  -- Nearly always each has the name that stands with its nonces.
  if not exists (
    select
    from json_to_recordset(callbacks) as c (source text, "accountId" text, "callbackId" text, nonces json),
      json_array_elements_text(c.nonces) as used (nonce)
    where (
      select (n.account_id, n.callback_id) <> (c."accountId", c."callbackId")
      from nonces as n
      where n.source = c.source and n.nonce = used.nonce
    )
  ) then
    return callbacks;
  end if;

  -- One after the other, for the first of one nonce may itself be a repetition by another.
  for callback in
    select id, source, "accountId" as account_id, "callbackId" as callback_id, array(select json_array_elements_text(nonces)) as nonces
    from rows from (
        json_to_recordset(callbacks) as (id uuid, source text, "accountId" text, "callbackId" text, nonces json)
      ) with ordinality as c (id, source, "accountId", "callbackId", nonces, ord)
    where nonces is not null
    order by ord
  loop
    select n.account_id, n.callback_id
    from nonces as n
    where n.source = callback.source and n.nonce = any (callback.nonces) and n.claimed_by <> callback.id
    order by n.received_at, n.nonce
    limit 1
    into known;
    if found then
      names := names
        || jsonb_build_object(callback.id, jsonb_build_object('accountId', known.account_id, 'callbackId', known.callback_id));
    else
      known := callback;
    end if;
    update nonces as n
    set account_id = known.account_id, callback_id = known.callback_id
    where n.source = callback.source and n.nonce = any (callback.nonces) and n.claimed_by = callback.id
      and (n.account_id, n.callback_id) <> (known.account_id, known.callback_id);
  end loop;
  return (
    select coalesce(json_agg(
      case when names ? (c ->> 'id') then (c::jsonb || (names -> (c ->> 'id')))::json else c end
      order by ord
    ), '[]')
    from json_array_elements(callbacks) with ordinality as input (c, ord)
  );
end
$$;
