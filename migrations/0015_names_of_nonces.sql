-- 0015: what comes again with its nonce and its bytes is a repetition, however late and by whatever name. Adds columns to nonces,
-- which rewrites nothing; nonces of before are known without a name until they are pruned.

alter table nonces add column claimed_by uuid, add column account_id text, add column callback_id text;

comment on column nonces.claimed_by is 'Id of the callback that came with it first.';
comment on column nonces.account_id is 'The account of the name under which that one was stored.';
comment on column nonces.callback_id is 'The name, with account_id, under which that one was stored.';

-- As in 0002, with the new columns.
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
      json_array_elements_text(c.nonces) as used (nonce), nonces as n
    where n.source = c.source and n.nonce = used.nonce and n.content_hash <> sha256(decode(c.raw, 'base64'))
  );
end
$$;

create function with_names_of_nonces(callbacks json) returns json
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
      json_array_elements_text(c.nonces) as used (nonce), nonces as n
    where n.source = c.source and n.nonce = used.nonce
      and (n.account_id, n.callback_id) <> (c."accountId", c."callbackId")
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

comment on function with_names_of_nonces is 'Gives callbacks whose nonce came before, with the same bytes, the name that those got then.';

-- As in 0013, and then by nonces.
create or replace function with_names_of_window(callbacks json) returns json
language sql as $$
  with input as (
    select
      ord, callback, callback ->> 'source' as source, callback ->> 'accountId' as account_id, callback ->> 'callbackId' as callback_id,
      callback -> 'previousName' ->> 'callbackId' as previous_id, uuid_extract_timestamp((callback ->> 'id')::uuid) as received_at,
      make_interval(secs => (callback -> 'previousName' ->> 'windowSeconds')::integer) as span
    from json_array_elements(callbacks) with ordinality as c (callback, ord)
  )
  select with_names_of_nonces(coalesce(json_agg(
    case when n.event_id is null and not exists (
      select from input as earlier
      where (earlier.source, earlier.account_id, earlier.callback_id) = (c.source, c.account_id, c.previous_id)
        and earlier.ord < c.ord and earlier.received_at > c.received_at - c.span
    )
    then c.callback
    else (c.callback::jsonb || jsonb_build_object('callbackId', c.previous_id))::json end
    order by c.ord
  ), '[]'))
  from input as c
  left join event_names as n
    on (n.source, n.account_id, n.callback_id) = (c.source, c.account_id, c.previous_id)
    and n.received_at > c.received_at - c.span
$$;

comment on function with_names_of_window is
  'Gives callbacks that only their bytes name the name that the same bytes got shortly before, in the window before theirs; then with_names_of_nonces.';
