-- 0012: more room for the updates of deliveries and attempts. With 60 of 100 filled one update in four still left its page,
-- for a row that begins and ends takes up to three places; with 45 none does, and the partitions are about as large, because
-- those rows and their index entries were written twice.

-- As in 0008, but for the fillfactor.
create or replace function ensure_partitions(from_time timestamptz, to_time timestamptz) returns void
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
    end loop;
  end loop;
end
$$;

do $$
declare
  partition regclass;
begin
  for partition in
    select inhrelid::regclass from pg_inherits where inhparent in ('deliveries'::regclass, 'attempts'::regclass)
  loop
    execute format('alter table %s set (fillfactor = 45)', partition);
  end loop;
end
$$;
