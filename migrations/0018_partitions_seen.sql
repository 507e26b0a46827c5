-- 0018: no session overlooks a partition for long. Replaces a function, adds one, and changes no table.

-- As in 0012, but returns how many partitions it has attached.
drop function ensure_partitions(timestamptz, timestamptz);

create function ensure_partitions(from_time timestamptz, to_time timestamptz) returns integer
language plpgsql as $$
declare
  parent text;
  week timestamptz;
  partition_name text;
  attached integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('ringback.ensure_partitions'));
  foreach parent in array array['events', 'duplicates', 'deliveries', 'attempts', 'quarantine'] loop
    for week in select generate_series(date_trunc('week', from_time, 'UTC'), to_time, interval '7 days', 'UTC') loop
      partition_name := format('%s_%s', parent, to_char(week at time zone 'UTC', 'IYYY"w"IW'));
      continue when exists (select from pg_inherits where inhrelid = to_regclass(partition_name));
      if to_regclass(partition_name) is null then
        execute format('create table %I (like %I including all)', partition_name, parent);
        if parent in ('deliveries', 'attempts') then
          execute format('alter table %I set (fillfactor = 45)', partition_name);
        end if;
        insert into partitions_made (name) values (partition_name) on conflict (name) do update set made_at = now();
      end if;
      execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parent, partition_name, week, week + interval '7 days');
      attached := attached + 1;
    end loop;
  end loop;
  return attached;
end
$$;

comment on function ensure_partitions is
  'Attaches the partitions of all weeks between two times that are not attached, made if need be; returns how many. announce_partitions is to follow.';

-- A session that reads the list of a table's partitions at the very moment at which one is attached can keep a list without
-- it (seen in Postgres 18.4): it takes the notice that the table has changed while it still reads. It then finds none of
-- that partition's rows and cannot insert any until the table changes again. These statements change nothing, but count
-- as such changes; nobody who reads or writes waits for them.
create function announce_partitions() returns void
language sql as $$
  select pg_advisory_xact_lock(hashtext('ringback.ensure_partitions'));
  alter table events alter column id reset (n_distinct);
  alter table duplicates alter column id reset (n_distinct);
  alter table deliveries alter column id reset (n_distinct);
  alter table attempts alter column delivery_id reset (n_distinct);
  alter table quarantine alter column id reset (n_distinct);
$$;

comment on function announce_partitions is
  'Has every session read the lists of partitions again, for one that was being attached can be missing in them.';
