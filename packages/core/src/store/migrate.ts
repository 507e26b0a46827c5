import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { advisoryLocks } from '../advisory-locks.ts'
import type { Sql, TransactionSql } from './connect.ts'
import { ensurePartitions } from './partitions.ts'

const MIGRATIONS = new URL('../../../../migrations/', import.meta.url)

/** The oldest Postgres that has what the migrations use, as `server_version_num`. */
export const MINIMUM_VERSION = 180_000

/**
 * How long a migration waits for a lock at a time. Whoever comes after it waits too, even if its process has been killed, so
 * somebody who reads a table for an hour, as pg_dump does, would otherwise hold up all who store.
 */
const LOCK_TIMEOUT = '2s'
const LOCK_PAUSE_MS = 2000
const LOCK_DEADLINE_MS = 1_200_000
/** SQLSTATEs: a lock timeout, a deadlock. */
const MUST_WAIT = new Set<unknown>(['55P03', '40P01'])

/**
 * Applies the migrations that the database lacks, in order, each in a transaction of its own; several processes may call
 * it at once. Then makes the partitions of this week and the next two. Returns the names of those it applied. Throws if
 * the server is too old or behind a connection pooler, the search path leads to another Ringback too, or the database has a
 * migration that this version does not know.
 */
export async function migrate(sql: Sql): Promise<string[]> {
  const [server] = await sql<[{ version: string; number: number }]>`
    select current_setting('server_version') as version, current_setting('server_version_num')::integer as number`
  if (server.number < MINIMUM_VERSION)
    throw new Error(
      `This is Postgres ${server.version}, and Ringback needs 18 or later: upgrade it, or use another server`,
    )
  const problem = (await poolerProblem(sql)) ?? (await searchPathProblem(sql))
  if (problem !== undefined) throw new Error(problem)
  await sql.begin(async (transaction) => {
    await lock(transaction)
    await transaction`
      create table if not exists ringback_migrations (
        name       text        not null constraint ringback_migrations_pkey primary key,
        applied_at timestamptz not null default now()
      )`
  })
  const files = await migrationFiles()
  const unknown = await unknownMigrations(sql)
  if (unknown.length > 0) {
    throw new Error(
      `The database has the migration ${unknown.join(', ')}, and this version of Ringback ends at ${files.at(-1)}. ` +
        'A newer version has been here: run that one, for this one does not know what it stores',
    )
  }
  const done: string[] = []
  for (const name of files) {
    if (await apply(sql, name)) done.push(name)
  }
  await ensurePartitions(sql)
  return done
}

/**
 * Applies `name` unless another process has done so in the meantime. Returns whether it was missing. While others use what it
 * changes, it tries again, for 20 minutes.
 */
async function apply(sql: Sql, name: string): Promise<boolean> {
  const deadline = performance.now() + LOCK_DEADLINE_MS
  for (;;) {
    try {
      return await applyOnce(sql, name)
    } catch (error) {
      const { code } = ((error as Error).cause ?? {}) as { code?: unknown }
      if (!MUST_WAIT.has(code) || performance.now() > deadline) throw error
      await sleep(LOCK_PAUSE_MS)
    }
  }
}

async function applyOnce(sql: Sql, name: string): Promise<boolean> {
  const text = await readFile(new URL(name, MIGRATIONS), 'utf8')
  return sql.begin(async (transaction) => {
    await lock(transaction)
    if ((await appliedMigrations(transaction)).includes(name)) return false
    try {
      await transaction`select set_config('lock_timeout', ${LOCK_TIMEOUT}, true)`
      await attachWhatIsDetached(transaction)
      await transaction.unsafe(text).simple()
    } catch (cause) {
      throw new Error(`The migration ${name} failed and was undone`, { cause })
    }
    await transaction`insert into ringback_migrations (name) values (${name})`
    return true
  })
}

/**
 * Attaches again what retention has detached, or begun to detach, and has not dropped yet: a migration that adds a column to
 * a table does not reach it there, and without the column it can be neither kept nor dropped. Retention begins anew then.
 */
async function attachWhatIsDetached(transaction: TransactionSql): Promise<void> {
  const detached = await transaction<{ parent: string; name: string; isPending: boolean; week: string }[]>`
    select
      substring(relname from '^[a-z]+') as parent, relname as name, inhdetachpending is not null as "isPending",
      (to_date(substring(relname from '\\d{4}w\\d{2}$'), 'IYYY"w"IW')::timestamp at time zone 'UTC')::text as week
    from pg_class
    left join pg_inherits on inhrelid = pg_class.oid
    where relnamespace = current_schema()::regnamespace
      and relkind = 'r'
      and relname ~ '^(events|duplicates|deliveries|attempts|quarantine)_\\d{4}w\\d{2}$'
      and inhdetachpending is not false`
  for (const { parent, name } of detached.filter(({ isPending }) => isPending))
    await transaction.unsafe(`alter table ${parent} detach partition ${name} finalize`)
  for (const { week } of detached)
    await transaction`select ensure_partitions(${week}::text::timestamptz, ${week}::text::timestamptz)`
}

/** Lets one migration at a time go on. */
async function lock(transaction: TransactionSql): Promise<void> {
  await transaction`select pg_advisory_xact_lock(${advisoryLocks.migrations})`
}

async function migrationFiles(): Promise<string[]> {
  return (await readdir(MIGRATIONS)).filter((name) => /^\d{4}_.+\.sql$/.test(name)).toSorted()
}

async function appliedMigrations(sql: Sql | TransactionSql): Promise<string[]> {
  return (await sql<{ name: string }[]>`select name from ringback_migrations order by name`).map(({ name }) => name)
}

/** Migrations that the database has and this version does not know: a newer version has applied them. */
export async function unknownMigrations(sql: Sql): Promise<string[]> {
  const files = await migrationFiles()
  return (await appliedIfAny(sql)).filter((name) => !files.includes(name))
}

async function appliedIfAny(sql: Sql): Promise<string[]> {
  const [table] = await sql<{ exists: boolean }[]>`select to_regclass('ringback_migrations') is not null as exists`
  return table?.exists ? appliedMigrations(sql) : []
}

/** What keeps this version from working with the database as it is; undefined if nothing does. */
export async function migrationProblem(sql: Sql): Promise<string | undefined> {
  const problem = (await poolerProblem(sql)) ?? (await searchPathProblem(sql))
  if (problem !== undefined) return problem
  const applied = await appliedIfAny(sql)
  const missing = (await migrationFiles()).filter((name) => !applied.includes(name))
  return missing.length > 0
    ? `the database lacks the migration ${missing.join(', ')}: run "ringback migrate"`
    : undefined
}

/**
 * What is wrong where a connection pooler takes the settings with which a session begins and drops them; others refuse them.
 * BullMQ's sessions would lack their schema too, so nothing that ingest accepts could be stored. Undefined with Postgres itself.
 */
async function poolerProblem(sql: Sql): Promise<string | undefined> {
  const [session] = await sql<[{ seqscan: string }]>`select current_setting('enable_seqscan') as seqscan`
  return session.seqscan === 'off'
    ? undefined
    : 'What answers is a connection pooler that drops the settings of sessions: DATABASE_URL must lead to Postgres itself, for Ringback sets its sessions up and keeps them'
}

/**
 * What is wrong where the tables of another Ringback are in a further schema of the search path. What is missing in the first
 * one would be taken from there: no partitions would be made, and before the first migration all would be stored there.
 */
async function searchPathProblem(sql: Sql): Promise<string | undefined> {
  const [other] = await sql<{ schema: string; first: string }[]>`
    select schema, current_schema() as first
    from unnest(current_schemas(false)) as schema
    where schema <> current_schema() and to_regclass(format('%I.ringback_migrations', schema)) is not null`
  return other === undefined
    ? undefined
    : `The search path begins with the schema ${other.first}, and leads to the Ringback in the schema ${other.schema} too: let it name only one of them, as by "?search_path=${other.first}" in DATABASE_URL`
}
