import { getTableColumns } from 'drizzle-orm'
import { getTableConfig } from 'drizzle-orm/pg-core'
import { expect, test } from 'vitest'
import { migrateQueue } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { migrate, migrationProblem } from '@ringback/core/store/migrate'
import * as schema from '@ringback/core/store/schema'
import { eventually, freshDatabase } from './support/ringback.ts'

test('the typed schema and a migrated database agree on every column', async () => {
  await using database = await freshDatabase()
  for (const table of Object.values(schema)) {
    const { name } = getTableConfig(table)
    const columns = await database.sql`
      select column_name as name, data_type as type, is_nullable = 'NO' as required
      from information_schema.columns where table_schema = 'public' and table_name = ${name} order by column_name`
    const typed = Object.values(getTableColumns(table)).map((column) => ({
      name: column.name,
      type: column.getSQLType(),
      required: column.notNull,
    }))
    expect({ name, columns: [...columns] }).toEqual({
      name,
      columns: typed.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    })
  }
})

test('everything in the schema says what it means', async () => {
  await using database = await freshDatabase()
  const bare = await database.sql`
    select c.relname as name, a.attname as column
    from pg_class as c
    left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
      and (obj_description(c.oid, 'pg_class') is null or (a.attnum is not null and col_description(c.oid, a.attnum) is null))
    order by 1, a.attnum`
  expect(bare.map(({ name, column }) => `${name}.${column}`)).toEqual([])
})

test('processes that migrate at the same time apply each migration once', async () => {
  await using database = await freshDatabase()
  await database.sql`drop schema public cascade`
  await database.sql`create schema public`
  expect(await migrationProblem(database.sql)).toMatch(
    /lacks the migration 0001_events\.sql, .*: run "ringback migrate"/,
  )
  const others = Array.from({ length: 4 }, () => connect(database.url, { max: 1, applicationName: 'ringback tests' }))
  const applied = await Promise.all(others.map((sql) => migrate(sql)))
  await Promise.all(others.map((sql) => sql.end()))
  expect(applied.flat().filter((name) => name === '0001_events.sql')).toHaveLength(1)
  expect(await migrationProblem(database.sql)).toBeUndefined()
  expect(await migrate(database.sql)).toEqual([])
})

test('processes that create the tables of the queue at the same time wait for each other', async () => {
  await using database = await freshDatabase()
  const { sql, url } = database
  await sql`drop table bullmq.ringback_producers`
  await sql`
    create function wait() returns event_trigger language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(1) from pg_event_trigger_ddl_commands() where object_identity = 'bullmq.ringback_producers';
    end $$`
  await sql`create event trigger wait on ddl_command_end when tag in ('CREATE TABLE') execute function wait()`
  const holder = await sql.reserve()
  await holder`select pg_advisory_lock(1)`
  const waiting = (count: number) =>
    eventually(async () =>
      expect(
        await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      ).toHaveLength(count),
    )
  const first = migrateQueue({ kind: 'postgres', url })
  await waiting(1)
  const second = migrateQueue({ kind: 'postgres', url })
  second.catch(() => undefined) // seen below
  await waiting(2)
  await holder`select pg_advisory_unlock(1)`
  holder.release()
  await Promise.all([first, second])
  expect(await sql`select from bullmq.ringback_producers`).toEqual([])
})

test('a migration finds every partition attached, for one that is not would never get the columns that it adds', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`select ensure_partitions('2025-01-06', '2025-01-06')`
  await sql`alter table deliveries detach partition deliveries_2025w02 concurrently`
  const reader = connect(database.url, { max: 1, applicationName: 'a reader' })
  const retention = connect(database.url, { max: 1, applicationName: 'retention' })
  await reader.begin(async (transaction) => {
    await transaction`select from events`
    await retention`select set_config('lock_timeout', '100ms', false)`
    const detaching = retention.unsafe('alter table events detach partition events_2025w02 concurrently')
    await expect(detaching).rejects.toThrow('lock timeout')
  })
  await Promise.all([reader.end(), retention.end()])
  const attached = () => sql<{ name: string }[]>`
    select inhrelid::regclass::text as name from pg_inherits
    where inhrelid::regclass::text ~ '2025w02$' and not inhdetachpending
    order by 1`
  const names = async () => (await attached()).map(({ name }) => name)
  expect(await names()).toEqual(['attempts_2025w02', 'duplicates_2025w02', 'quarantine_2025w02'])

  await sql`delete from ringback_migrations where name = '0017_changes_of_forms.sql'`
  expect(await migrate(sql)).toEqual(['0017_changes_of_forms.sql'])

  expect(await names()).toEqual(
    ['attempts', 'deliveries', 'duplicates', 'events', 'quarantine'].map((table) => `${table}_2025w02`),
  )
})

test('a migration that waits for somebody who reads lets everybody else go first', async () => {
  await using database = await freshDatabase()
  await database.sql`delete from ringback_migrations where name = '0014_limited.sql'`
  await database.sql`alter table destinations drop column limited`
  const dump = connect(database.url, { max: 1, applicationName: 'pg_dump' })
  const worker = connect(database.url, { max: 1, applicationName: 'a worker' })
  await dump.unsafe('begin; select from destinations')

  const migrating = migrate(database.sql)
  await eventually(async () => {
    expect(await dump`select from pg_locks where relation = 'destinations'::regclass and not granted`).toHaveLength(1)
  })
  await worker`insert into destinations (handler) values ('crm')`

  await dump.unsafe('commit')
  expect(await migrating).toEqual(['0014_limited.sql'])
  await Promise.all([dump.end(), worker.end()])
})

test('a migration takes as long as it needs, whatever transaction_timeout is', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`delete from ringback_migrations where name = '0014_limited.sql'`
  await sql`alter table destinations drop column limited`
  // Stands for one that changes many rows.
  const other = connect(database.url, { max: 1, applicationName: 'ringback tests' })
  await other.unsafe('begin; select from destinations')
  await sql.unsafe(`alter database ${sql.options.database} set transaction_timeout = '100ms'`)

  const migrator = connect(database.url, { max: 1, applicationName: 'ringback migrate' })
  const migrating = migrate(migrator)
  await eventually(async () => {
    expect(
      await sql`
        select from pg_stat_activity
        where datname = current_database() and application_name = 'ringback migrate' and wait_event_type = 'Lock'
          and xact_start < clock_timestamp() - interval '200 ms'`,
    ).toHaveLength(1)
  })
  await other.unsafe('commit')
  expect(await migrating).toEqual(['0014_limited.sql'])
  await Promise.all([other.end(), migrator.end()])
})

test('a database that a newer version has migrated is left alone', async () => {
  await using database = await freshDatabase()
  await database.sql`insert into ringback_migrations (name) values ('9999_future.sql')`
  await expect(migrate(database.sql)).rejects.toThrow(
    /has the migration 9999_future\.sql.*A newer version has been here/,
  )
})

test('what people write is an index lookup in each partition, and a time reads only its own', async () => {
  await using database = await freshDatabase()
  const plan = async (condition: string) => {
    const rows = await database.sql.unsafe<{ 'QUERY PLAN': string }[]>(
      `explain select * from events where ${condition}`,
    )
    return rows.map((row) => row['QUERY PLAN']).join('\n')
  }
  for (const condition of ["callback_id = 'x'", "id = '01a20100-2034-72e6-8f19-104d6f900fe4'", "call_id = 'x'"]) {
    expect(await plan(condition)).not.toMatch(/Seq Scan/)
  }
  expect(new Set((await plan('received_at > now()')).match(/events_\d{4}w\d\d/g)).size).toBe(3)
  expect(
    (await plan("received_at > now() - interval '1 hour' and received_at <= now()")).match(/Subplans Removed/g),
  ).toHaveLength(1)
})

test('the role for people reads every table, view and partition, those to come as well, and changes none', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`select ensure_partitions(now() + interval '100 days', now() + interval '100 days')`
  const relations = await sql<{ name: string; kind: string }[]>`
    select relname as name, relkind::text as kind from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')`
  expect(relations.length).toBeGreaterThan(40)
  await sql.begin(async (transaction) => {
    await transaction`set local role ringback_reader`
    for (const { name, kind } of relations) {
      await transaction.unsafe(`select * from ${name} limit 0`)
      if (kind === 'v') continue
      for (const change of [`delete from ${name}`, `truncate ${name}`, `insert into ${name} default values`]) {
        await expect(transaction.savepoint((savepoint) => savepoint.unsafe(change))).rejects.toThrow(
          /permission denied/,
        )
      }
    }
    for (const call of [
      `fold_event_counts()`,
      `store_callbacks('[]', '[]', '[{"source":"s","reason":"r","count":1}]', '[]', false)`,
    ]) {
      await expect(transaction.savepoint((savepoint) => savepoint.unsafe(`select ${call}`))).rejects.toThrow(
        /permission denied/,
      )
    }
  })
})

test('in a schema of its own that role reads the same, and nothing of others in public', async () => {
  await using database = await freshDatabase()
  await database.sql`drop schema public cascade`
  await database.sql`create schema public`
  await database.sql`create schema own`
  await database.sql`create table public.customers (id integer)`
  const sql = connect(`${database.url}?search_path=own`, { max: 1, applicationName: 'ringback tests' })
  await migrate(sql)
  await database.sql`grant usage on schema public to ringback_reader`
  await database.sql`create table public.orders (id integer)`
  await sql.begin(async (transaction) => {
    await transaction`set local role ringback_reader`
    expect(await transaction`select from own.events`).toHaveLength(0)
    for (const table of ['public.customers', 'public.orders']) {
      const look = transaction.savepoint((savepoint) => savepoint`select from ${savepoint(table)}`)
      await expect(look).rejects.toThrow(/permission denied for table/)
    }
  })
  await sql.end()
})

test('where the search path leads to another Ringback too, nothing is made or taken from there', async () => {
  await using database = await freshDatabase()
  await database.sql`create schema own`
  const sql = connect(`${database.url}?search_path=own,public`, { max: 1, applicationName: 'ringback tests' })
  const problem = /^The search path begins with the schema own, and leads to the Ringback in the schema public too/
  await expect(migrate(sql)).rejects.toThrow(problem)
  expect(await migrationProblem(sql)).toMatch(problem)
  expect(await sql`select from pg_class where relnamespace = 'own'::regnamespace`).toHaveLength(0)
  await sql.end()
})

test('with a publication of all tables every table can be changed', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`create publication everything for all tables`
  const tables = await sql<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`
  for (const { name } of tables) await sql`delete from ${sql(name)}`
})

test('a Postgres that is too old is left alone, and told of', async () => {
  await using database = await freshDatabase()
  await database.sql`drop schema public cascade`
  await database.sql.unsafe(`
    create schema old;
    create function old.current_setting(name text) returns text language sql
      return case name when 'server_version' then '17.5' when 'server_version_num' then '170005' end`)
  const sql = connect(`${database.url}?search_path=old,pg_catalog`, { max: 1, applicationName: 'ringback tests' })
  await expect(migrate(sql)).rejects.toThrow(/^This is Postgres 17\.5, and Ringback needs 18 or later/)
  expect(await sql`select to_regclass('ringback_migrations') as made`).toEqual([{ made: null }])
  await sql.end()
})

test('a connection pooler that drops the settings of sessions is told of, and nothing is made behind it', async () => {
  await using database = await freshDatabase()
  await database.sql`drop schema public cascade`
  await database.sql`create schema public`
  const sql = connect(database.url, { max: 1, applicationName: 'ringback tests' })
  // What is left of a session that such a pooler hands out.
  await sql`set enable_seqscan = on`
  await expect(migrate(sql)).rejects.toThrow(/^What answers is a connection pooler .* must lead to Postgres itself/)
  expect(await migrationProblem(sql)).toMatch(/^What answers is a connection pooler/)
  expect(await sql`select to_regclass('ringback_migrations') as made`).toEqual([{ made: null }])
  await sql.end()
})
