-- 0011: several groups in one transaction, as a worker takes them when many wait. Changes no table.

drop function store_group(uuid, json, json, json, json, boolean);

-- All of these groups as one, whose arrays hold what is in all of them; or none, and null, if each was stored before. If
-- that is so only of some it fails, and nothing is changed.
create function store_groups(
  group_ids uuid[], callbacks json, quarantined json, dropped json, matched json, look_at_names boolean
) returns json
language plpgsql as $$
declare
  claimed integer;
begin
  insert into store_groups (id) select unnest(group_ids) order by 1 on conflict do nothing;
  get diagnostics claimed = row_count;
  if claimed = 0 then
    return null;
  end if;
  if claimed < cardinality(group_ids) then
    raise exception 'some of these groups were stored before' using errcode = 'object_not_in_prerequisite_state';
  end if;
  return store_callbacks(callbacks, quarantined, dropped, matched, look_at_names);
end
$$;
