-- 0008: what is dropped after its time, and what is kept longer: dead letters with their events and attempts.

create table partitions_made (
  name    text        not null,
  made_at timestamptz not null default now(),
  constraint partitions_made_pkey primary key (name)
);

comment on table partitions_made is 'When each weekly partition was made. One that was made late, for a clock was wrong, is kept as long as any other.';
comment on column partitions_made.name is 'The table''s name: the parent, ISO year and ISO week, such as events_2026w05.';
comment on column partitions_made.made_at is 'Nothing is dropped sooner than one retention period after it.';

-- Those of before are as old as what is in them.
insert into partitions_made (name, made_at)
select relname, to_date(substring(relname from '\d{4}w\d{2}$'), 'IYYY"w"IW')::timestamp at time zone 'UTC'
from pg_inherits
join pg_class on pg_class.oid = inhrelid
where inhparent in ('events'::regclass, 'duplicates'::regclass, 'deliveries'::regclass, 'attempts'::regclass, 'quarantine'::regclass);

-- Partitions are attached, not created in place, for that locks out nobody who reads or writes the table. One that
-- retention has detached and not yet dropped is attached again: something has arrived for it.
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
          execute format('alter table %I set (fillfactor = 60)', partition_name);
        end if;
        insert into partitions_made (name) values (partition_name) on conflict (name) do update set made_at = now();
      end if;
      execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parent, partition_name, week, week + interval '7 days');
    end loop;
  end loop;
end
$$;

-- Not partitioned: dead letters are few. The columns are those of events, deliveries and attempts; a test compares them.
create table kept_events (like events, kept_at timestamptz not null default now(), constraint kept_events_pkey primary key (id));
create table kept_deliveries (like deliveries, kept_at timestamptz not null default now(), constraint kept_deliveries_pkey primary key (id));
create table kept_attempts (
  like attempts, kept_at timestamptz not null default now(), constraint kept_attempts_pkey primary key (delivery_id, number)
);

create index kept_events_received_at on kept_events (received_at);
create index kept_events_callback_id on kept_events (callback_id);
create index kept_events_call_id on kept_events (call_id) where call_id is not null;
create index kept_deliveries_event_id on kept_deliveries (event_id);
create index kept_deliveries_handler on kept_deliveries (handler, finished_at);
create index kept_deliveries_event_received_at on kept_deliveries (event_received_at);
create index kept_attempts_event_received_at on kept_attempts (event_received_at);

comment on table kept_events is 'Events whose partition was dropped, and of which a delivery was a dead letter. For reading: nothing here runs again.';
comment on table kept_deliveries is 'Dead letters whose partition was dropped. For reading: they cannot be retried.';
comment on table kept_attempts is 'The attempts of kept_deliveries.';

comment on column kept_events.kept_at is 'When it was copied here, just before its partition was dropped.';
comment on column kept_deliveries.kept_at is 'When it was copied here, just before its partition was dropped.';
comment on column kept_attempts.kept_at is 'When it was copied here, just before its partition was dropped.';

-- Copies the dead letters of one week out of its partitions, which retention has detached: nobody changes them any more.
create function keep_dead_letters(week text) returns bigint
language plpgsql as $$
declare
  kept bigint;
  columns text;
  copied text;
begin
  foreach copied in array array['events', 'deliveries', 'attempts'] loop
    select string_agg(quote_ident(attname), ', ' order by attnum) into columns
    from pg_attribute
    where attrelid = copied::regclass and attnum > 0 and not attisdropped;
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

comment on function keep_dead_letters is 'Copies the dead letters of a week, such as 2026w05, with their events and attempts to kept_*; returns how many.';
