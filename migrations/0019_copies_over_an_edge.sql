-- 0019: two copies that only their bytes name, one on each side of the edge of a window, are one event also where they are stored
-- at the same moment, or the later one first. Replaces a function, adds one, and changes no table.

create function named_by_window(callbacks json) returns table (
  ord bigint, source text, account_id text, callback_id text, previous_id text, next_id text, received_at timestamptz, span interval
)
language sql as $$
  select
    ord, source, account_id, callback_id, previous_id,
    -- Names end in the number of their window.
    case when date_bin(span, received_at, 'epoch') + span < clock_timestamp() + interval '1 minute'
      then regexp_replace(callback_id, '\d+$', '') || substring(callback_id from '\d+$')::bigint + 1 end,
    received_at, span
  from (
    select
      ord, source, account_id, callback_id, previous ->> 'callbackId' as previous_id, uuid_extract_timestamp(id) as received_at,
      make_interval(secs => (previous ->> 'windowSeconds')::integer) as span
    from rows from (
        json_to_recordset(callbacks) as (id uuid, source text, "accountId" text, "callbackId" text, "previousName" json)
      ) with ordinality as c (id, source, account_id, callback_id, previous, ord)
    where previous is not null
  ) as c
$$;

comment on function named_by_window is
  'Callbacks that only their bytes name, with the names that copies got in the windows before and after. There is none after, and next_id is null, until the window of the callback has ended or ends within a minute.';

create or replace function with_names_of_window(callbacks json) returns json
language plpgsql as $$
declare
  renamed jsonb;
begin
  -- Looking for the word costs less than reading the JSON.
  if position('"previousName":' in callbacks::text) > 0 then
    -- A callback looks for the name before its own, which may be being claimed at this moment: whoever claims a name waits for
    -- those who look for it, and they for him. Nobody looks for a name until its window has ended, so that one claimed a minute
    -- earlier, longer than storing takes and clocks differ, needs no lock, and hardly anybody ever waits. A lock for each name
    -- would be too many for Postgres, so names share 64; in their order, so that two workers do not wait for each other.
    perform case when is_claimed
      then pg_advisory_xact_lock(hashtext('ringback.with_names_of_window'), bucket)
      else pg_advisory_xact_lock_shared(hashtext('ringback.with_names_of_window'), bucket) end
    from (
      select hashtext(concat_ws(' ', source, account_id, name)) & 63 as bucket, bool_or(is_claimed) as is_claimed
      from named_by_window(callbacks) as c, lateral (values (previous_id, false), (callback_id, true)) as names (name, is_claimed)
      where next_id is not null or not is_claimed
      group by bucket
      order by bucket
    ) as locks;

    -- A second statement, to see what was committed while the first one waited. Each name is looked up by itself, for a join
    -- might read all of the table if it was planned while the table was small.
    with named as materialized (
      select * from named_by_window(callbacks)
    ),
    after_another as materialized (
      select ord
      from named as c
      where exists (
        select from named as earlier
        where (earlier.source, earlier.account_id, earlier.callback_id) = (c.source, c.account_id, c.previous_id)
          and earlier.received_at > c.received_at - c.span
      )
    ),
    other_names as (
      select ord, case
        when (
          select n.received_at from event_names as n
          where (n.source, n.account_id, n.callback_id) = (c.source, c.account_id, c.previous_id)
        ) > c.received_at - c.span then previous_id
        when next_id is null and ord not in (select ord from after_another) then null
        when (
          select n.received_at from event_names as n
          where (n.source, n.account_id, n.callback_id) = (c.source, c.account_id, c.callback_id)
        ) is not null then null
        when ord in (select ord from after_another) then previous_id
        when (
          select n.received_at from event_names as n
          where (n.source, n.account_id, n.callback_id) = (c.source, c.account_id, c.next_id)
        ) < c.received_at + c.span then next_id
      end as name
      from named as c
    )
    select jsonb_object_agg(ord, jsonb_build_object('callbackId', name)) from other_names where name is not null into renamed;

    if renamed is not null then
      callbacks := (
        select json_agg(case when renamed ? ord::text then (c::jsonb || (renamed -> ord::text))::json else c end order by ord)
        from json_array_elements(callbacks) with ordinality as input (c, ord)
      );
    end if;
  end if;
  return with_names_of_nonces(callbacks);
end
$$;

comment on function with_names_of_window is
  'Gives callbacks that only their bytes name the name that the same bytes got shortly before or after, in the window before or after theirs; then with_names_of_nonces.';
