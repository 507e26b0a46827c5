-- 0026: what users add to the database stops nothing: columns of their own, and a publication of all tables. Replaces two functions, and
-- changes no rows.

-- As in 0008, but copies the columns that both tables have. A column of the user's, which kept_* lack, kept every week from being dropped.
create or replace function keep_dead_letters(week text) returns bigint
language plpgsql as $$
declare
  kept bigint;
  columns text;
  copied text;
begin
  foreach copied in array array['events', 'deliveries', 'attempts'] loop
    select string_agg(quote_ident(attname), ', ' order by own.attnum) into columns
    from pg_attribute as own
    join pg_attribute as k using (attname)
    where own.attrelid = copied::regclass and k.attrelid = ('kept_' || copied)::regclass
      and own.attnum > 0 and not own.attisdropped and k.attgenerated = '';
    execute format(
      'insert into %I (%s) select %s from %I where %I in (select %I from %I where status = ''dead'') on conflict do nothing',
      'kept_' || copied, columns, columns, copied || '_' || week,
      case copied when 'attempts' then 'delivery_id' else 'id' end,
      case copied when 'events' then 'event_id' else 'id' end,
      'deliveries_' || week
    );
    if copied = 'deliveries' then
      get diagnostics kept = row_count;
    end if;
  end loop;
  return kept;
end
$$;

-- As in 0018, but a partition gets an identity column from its table when it is attached, for it may not bring one along.
create or replace function ensure_partitions(from_time timestamptz, to_time timestamptz) returns integer
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
        execute format('create table %I (like %I including all excluding identity)', partition_name, parent);
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

-- With a publication of all tables, Postgres refuses to delete from a table that has neither a primary key nor this. It costs something
-- only where wal_level is logical.
alter table event_counts_appended replica identity full;
alter table source_minutes replica identity full;
alter table delivery_minutes replica identity full;
alter table quarantine_dropped replica identity full;
