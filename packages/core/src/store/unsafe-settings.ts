import type { Sql } from './connect.ts'
import { MINIMUM_VERSION, unknownMigrations } from './migrate.ts'

/** Something about a Postgres server that loses data, or stops Ringback one day. */
export interface UnsafeSetting {
  problem: string
  mend: string
}

export interface UnsafeSettingsOptions {
  /** Connections that one worker may open, its queue's included. */
  connectionsPerWorker?: number
  /** The size of a worker's own pools together. The number of workers is estimated from it. */
  workerPool?: number
  /** This process's clock, in ms since 1970. */
  now?: () => number
}

const MAX_SKEW_MS = 5000
const MAX_KEPT_WAL_BYTES = 4 * 2 ** 30

/**
 * What is unsafe about the server and the database, each with its mend. How full the server's disk is can't be asked
 * through SQL. Throws if the database does not answer.
 */
export async function unsafeDatabaseSettings(
  sql: Sql,
  { connectionsPerWorker = 0, workerPool = 1, now = Date.now }: UnsafeSettingsOptions = {},
): Promise<UnsafeSetting[]> {
  const server = await readServer(sql)
  return [
    ...durability(server),
    ...versionAndEncoding(server),
    ...clocks(Math.abs(await clockAheadMs(sql, now))),
    ...(await connections(sql, server, { connectionsPerWorker, workerPool })),
    ...(await invalidIndexes(sql)),
    ...(await forgottenSlots(sql)),
    ...(await failingArchive(sql)),
    ...(await migrationsFromLater(sql)),
  ]
}

interface Server {
  version: string
  versionNumber: number
  fsync: string
  fullPageWrites: string
  synchronousCommit: string
  encoding: string
  /** max_connections without those that are reserved, for superusers for example. */
  connections: number
  isStandby: boolean
  isReadOnly: boolean
}

async function readServer(sql: Sql): Promise<Server> {
  const [server] = await sql<[Server]>`
    select
      current_setting('server_version') as version,
      current_setting('server_version_num')::integer as "versionNumber",
      current_setting('fsync') as fsync,
      current_setting('full_page_writes') as "fullPageWrites",
      current_setting('synchronous_commit') as "synchronousCommit",
      current_setting('server_encoding') as encoding,
      current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true)::integer, 0) as connections,
      pg_is_in_recovery() as "isStandby",
      current_setting('default_transaction_read_only') = 'on' as "isReadOnly"`
  return server
}

/** How far the database's clock is ahead of that of this process, which is `now`; negative if it is behind. */
export async function clockAheadMs(sql: Sql, now: () => number): Promise<number> {
  const askedAt = now()
  const [clock] = await sql<[{ ms: number }]>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`
  return clock.ms - (askedAt + now()) / 2
}

function* durability(server: Server): Generator<UnsafeSetting> {
  if (server.fsync === 'off') {
    yield {
      problem: 'fsync is off, so a crash of the machine may destroy the database, with all that was stored',
      mend: 'set "fsync = on"',
    }
  }
  if (server.fullPageWrites === 'off') {
    yield {
      problem: 'full_page_writes is off, so a crash of the machine may leave pages half written',
      mend: 'set "full_page_writes = on", unless the file system writes pages as a whole (ZFS)',
    }
  }
  if (server.synchronousCommit === 'off') {
    yield {
      problem:
        'synchronous_commit is off, so a crash loses the last moments of what was stored, and the queue has forgotten it',
      mend: 'set "synchronous_commit = on", for the server, the database and the role',
    }
  }
  if (server.isStandby) {
    yield {
      problem: 'the database is a standby, which takes no writes: the worker waits until it is promoted',
      mend: 'let DATABASE_URL lead to the primary',
    }
  } else if (server.isReadOnly) {
    yield {
      problem: 'default_transaction_read_only is on: the worker waits until it is off',
      mend: 'set "default_transaction_read_only = off", for the server, the database and the role',
    }
  }
}

function* versionAndEncoding({ version, versionNumber, encoding }: Server): Generator<UnsafeSetting> {
  if (versionNumber < MINIMUM_VERSION) {
    yield {
      problem: `this is Postgres ${version}, and Ringback needs 18`,
      mend: 'upgrade to Postgres 18 or later',
    }
  }
  if (encoding !== 'UTF8') {
    yield {
      problem: `the database's encoding is ${encoding}, so texts are not compared as characters`,
      mend: 'create the database with encoding UTF8',
    }
  }
}

function* clocks(skewMs: number): Generator<UnsafeSetting> {
  if (skewMs > MAX_SKEW_MS) {
    yield {
      problem: `the clocks of this machine and of the database are ${Math.round(skewMs / 1000)} s apart, so times of events, retries and leases are wrong`,
      mend: 'keep both in step by NTP',
    }
  }
}

/** Whether all present workers could open as many connections as they may, and whether the server has nearly run out. */
async function connections(
  sql: Sql,
  { connections: allowed }: Server,
  { connectionsPerWorker, workerPool }: { connectionsPerWorker: number; workerPool: number },
): Promise<UnsafeSetting[]> {
  const [open] = await sql<[{ all: number; ofWorkers: number; ofOthers: number }]>`
    select
      count(*)::integer as all,
      count(*) filter (where application_name = 'ringback worker')::integer as "ofWorkers",
      count(*) filter (where application_name not like 'ringback %')::integer as "ofOthers"
    from pg_stat_activity
    -- Of the sessions of other roles, a role without special rights is not shown the type.
    where backend_type = 'client backend' or backend_type is null and usesysid is not null and datid is not null`
  const workers = Math.max(1, Math.ceil(open.ofWorkers / workerPool))
  const needed = workers * connectionsPerWorker
  const mayOpen = `${workers} worker${workers === 1 ? '' : 's'} may open ${needed}`
  const mend = `raise max_connections, lower WORKER_CONCURRENCY, or run fewer workers`
  if (needed + open.ofOthers > allowed) {
    return [
      {
        problem: `max_connections leaves ${allowed}, and ${mayOpen} beside ${open.ofOthers} of others`,
        mend,
      },
    ]
  }
  const [limit] = await sql<{ connections: number | null }[]>`
    select least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1)) as connections
    from pg_roles, pg_database
    where rolname = session_user and datname = current_database()`
  if (limit?.connections != null && needed > limit.connections) {
    return [
      {
        problem: `the role or the database is limited to ${limit.connections} connections, and ${mayOpen}`,
        mend: 'raise its connection limit, lower WORKER_CONCURRENCY, or run fewer workers',
      },
    ]
  }
  if (open.all >= allowed * 0.9)
    return [{ problem: `${open.all} of ${allowed} connections are in use: soon new ones are refused`, mend }]
  return []
}

/** An invalid unique index may hold duplicates; any other is not used. One that is still being built is left out. */
async function invalidIndexes(sql: Sql): Promise<UnsafeSetting[]> {
  const indexes = await sql<{ name: string; table: string }[]>`
    select i.indexrelid::regclass::text as name, i.indrelid::regclass::text as table
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    where not i.indisvalid
      and c.relkind = 'i'
      and c.relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
      and not exists (select from pg_stat_progress_create_index as p where p.index_relid = i.indexrelid)
    order by 1`
  return indexes.map(({ name, table }) => ({
    problem: `the index ${name} of ${table} is invalid: it is not used, and if it is unique it keeps out nothing`,
    mend: `"reindex index concurrently ${name}"`,
  }))
}

/** Slots of replicas that are gone for good, or of unfinished backups: the usual reason why a disk fills up. */
async function forgottenSlots(sql: Sql): Promise<UnsafeSetting[]> {
  const slots = await sql<{ name: string; kept: string }[]>`
    select slot_name as name, pg_size_pretty(kept) as kept
    from pg_replication_slots,
      pg_wal_lsn_diff(
        case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn
      ) as kept
    where not active and kept > ${MAX_KEPT_WAL_BYTES}::text::numeric`
  return slots.map(({ name, kept }) => ({
    problem: `nobody reads the replication slot ${name}, for which the server keeps ${kept} of WAL until its disk is full`,
    mend: `start its replica, or "select pg_drop_replication_slot('${name}')", and set max_slot_wal_keep_size`,
  }))
}

/** After an archive_command that fails, the server keeps what it could not archive. */
async function failingArchive(sql: Sql): Promise<UnsafeSetting[]> {
  const failed = await sql<{ file: string }[]>`
    select last_failed_wal as file
    from pg_stat_archiver
    where current_setting('archive_mode') <> 'off' and last_failed_time > coalesce(last_archived_time, '-infinity')`
  return failed.map(({ file }) => ({
    problem: `the archiving of WAL fails (${file}), and the server keeps it until its disk is full`,
    mend: 'see to archive_command and to the log of Postgres, or set "archive_mode = off"',
  }))
}

async function migrationsFromLater(sql: Sql): Promise<UnsafeSetting[]> {
  const unknown = await unknownMigrations(sql)
  if (unknown.length === 0) return []
  return [
    {
      problem: `the database has the migration ${unknown.join(', ')}, of a later version of Ringback than this one`,
      mend: 'run that version everywhere',
    },
  ]
}
