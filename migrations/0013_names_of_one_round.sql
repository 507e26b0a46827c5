-- 0013: what only its bytes name keeps its name over the edge of a window also where both copies are stored together. Changes
-- no table.

create or replace function with_names_of_window(callbacks json) returns json
language sql as $$
  with input as (
    select
      ord, callback, callback ->> 'source' as source, callback ->> 'accountId' as account_id, callback ->> 'callbackId' as callback_id,
      callback -> 'previousName' ->> 'callbackId' as previous_id, uuid_extract_timestamp((callback ->> 'id')::uuid) as received_at,
      make_interval(secs => (callback -> 'previousName' ->> 'windowSeconds')::integer) as span
    from json_array_elements(callbacks) with ordinality as c (callback, ord)
  )
  select coalesce(json_agg(
    case when n.event_id is null and not exists (
      select from input as earlier
      where (earlier.source, earlier.account_id, earlier.callback_id) = (c.source, c.account_id, c.previous_id)
        and earlier.ord < c.ord and earlier.received_at > c.received_at - c.span
    )
    then c.callback
    else (c.callback::jsonb || jsonb_build_object('callbackId', c.previous_id))::json end
    order by c.ord
  ), '[]')
  from input as c
  left join event_names as n
    on (n.source, n.account_id, n.callback_id) = (c.source, c.account_id, c.previous_id)
    and n.received_at > c.received_at - c.span
$$;
