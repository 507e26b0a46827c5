-- 0006: deliveries and attempts are updated soon after they are made. With room left in each page, such an update stays in
-- its page and leaves the indexes alone.

-- Partitions are attached, not created in place, for that locks out nobody who reads or writes the table.
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
      continue when to_regclass(partition_name) is not null;
      execute format('create table %I (like %I including all)', partition_name, parent);
      if parent in ('deliveries', 'attempts') then
        execute format('alter table %I set (fillfactor = 60)', partition_name);
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
    execute format('alter table %s set (fillfactor = 60)', partition);
  end loop;
end
$$;
