import { expect, test } from 'vitest'
import { createConsumer, createProducer, migrateQueue } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { eventually, freshDatabase, log, untilAdvisoryLockIsWaitedFor } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

// On a server of others, the role and the database have settings for other programs, which each session begins with.

async function setForAll({ sql }: Database, name: string, value: string): Promise<void> {
  const [row] = await sql<[{ statement: string }]>`
    select format('alter database %I set %I = %L', current_database(), ${name}::text, ${value}::text) as statement`
  await sql.unsafe(row.statement)
}

/** Works on a connection that begins after the settings were made. */
async function inNewSession<Result>({ url }: Database, work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const sql = connect(url, { max: 1, applicationName: 'ringback tests' })
  return work(sql).finally(() => sql.end())
}

test('bytes are read as they were stored, whatever bytea_output is', async () => {
  await using database = await freshDatabase()
  await setForAll(database, 'bytea_output', 'escape')
  const bytes = Buffer.from([0, 255, 92, ...Buffer.from('{"a":"é"}')])
  expect(await inNewSession(database, (sql) => sql`select ${bytes}::bytea as bytes`)).toEqual([{ bytes }])
})

test('a backslash in a statement is a backslash, whatever standard_conforming_strings is', async () => {
  await using database = await freshDatabase()
  await setForAll(database, 'standard_conforming_strings', 'off')
  expect(await inNewSession(database, (sql) => sql`select '\\d' as text`)).toEqual([{ text: '\\d' }])
})

test('days and months stay apart, whatever DateStyle is', async () => {
  await using database = await freshDatabase()
  await setForAll(database, 'DateStyle', 'SQL, DMY')
  expect(await inNewSession(database, (sql) => sql`select timestamptz '2026-03-04 05:06:07Z' as at`)).toEqual([
    { at: new Date('2026-03-04T05:06:07Z') },
  ])
})

test.each(['repeatable read', 'serializable'])(
  'a statement sees what was committed while it waited for a lock, though transactions are %s',
  async (isolation) => {
    await using database = await freshDatabase()
    const { sql } = database
    await setForAll(database, 'default_transaction_isolation', isolation)
    await sql`create table changed (value integer)`
    await inNewSession(database, async (waiting) => {
      const { seen } = await sql.begin(async (first) => {
        await first`select pg_advisory_xact_lock(1)`
        const seen = waiting.begin(async (second) => {
          await second`select pg_advisory_xact_lock(1)`
          return second`select value from changed`
        })
        await untilAdvisoryLockIsWaitedFor(database)
        await first`insert into changed values (1)`
        return { seen }
      })
      expect(await seen).toEqual([{ value: 1 }])
    })
  },
)

test('the sessions of a queue in Postgres see what others have committed, may idle, and have no limit for a transaction', async () => {
  await using database = await freshDatabase()
  const queue: QueueServer = { kind: 'postgres', url: database.url }
  await migrateQueue(queue)
  await setForAll(database, 'default_transaction_isolation', 'serializable')
  await setForAll(database, 'idle_session_timeout', '1s')
  await setForAll(database, 'transaction_timeout', '10s')
  // Notes the settings of whoever adds, takes or finishes a job.
  await database.sql.unsafe(`
    create table public.sessions (isolation text, idle text, transaction text);
    create function public.note() returns trigger language plpgsql as $$ begin
      insert into public.sessions values (
        current_setting('transaction_isolation'), current_setting('idle_session_timeout'), current_setting('transaction_timeout')
      );
      return null;
    end $$;
    create trigger note after insert or update or delete on bullmq.job for each statement execute function public.note()`)
  const producer = createProducer(queue, 'store', { timeoutMs: 5000, log })
  const { signal } = new AbortController()
  const consumer = await createConsumer(queue, 'store', { concurrency: 1, log, stopping: signal }, async () => {})
  await producer.add('x', {})
  await eventually(async () => expect(await database.sql`select from bullmq.job`).toEqual([]))
  await consumer.close()
  await producer.close()
  expect(await database.sql`select distinct isolation, idle, transaction from sessions`).toEqual([
    { isolation: 'read committed', idle: '0', transaction: '0' },
  ])
})

test('a connection may idle for days, whatever idle_session_timeout is', async () => {
  await using database = await freshDatabase()
  await setForAll(database, 'idle_session_timeout', '1s')
  const [setting] = await inNewSession(
    database,
    (sql) => sql<[{ days: number }]>`
      select extract(day from justify_hours(current_setting('idle_session_timeout')::interval))::integer as days`,
  )
  expect(setting.days).toBeGreaterThan(7)
})

test('a transaction may take longer than transaction_timeout', async () => {
  await using database = await freshDatabase()
  await setForAll(database, 'transaction_timeout', '100ms')
  expect(await inNewSession(database, (sql) => sql`select 1 as done from pg_sleep(0.3)`)).toEqual([{ done: 1 }])
})
