import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from '@ringback/core/store/connect'
import { migrate, unknownMigrations } from '@ringback/core/store/migrate'
import { unsafeDatabaseSettings } from '@ringback/core/store/unsafe-settings'
import type { UnsafeSettingsOptions } from '@ringback/core/store/unsafe-settings'
import { databaseOn, ownPostgres } from './support/postgres-server.ts'
import type { PostgresServer } from './support/postgres-server.ts'
import { eventually, keptLog, startWorker } from './support/ringback.ts'

let server: PostgresServer

beforeAll(async () => {
  server = await ownPostgres(['max_connections=30', 'archive_mode=on'], { isSafe: true })
  await query(async (sql) => void (await migrate(sql)))
  await archiveBy('true')
})

afterAll(() => server[Symbol.asyncDispose]())

async function query(work: (sql: ReturnType<typeof connect>) => Promise<void>): Promise<void> {
  const sql = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await work(sql).finally(() => sql.end())
}

/** The archiver tries again each second. */
const PATIENT = { timeout: 30_000 }

async function archiveBy(command: string): Promise<void> {
  await query(async (sql) => {
    await sql.unsafe(`alter system set archive_command = '${command}'`)
    await sql`select pg_reload_conf()`
  })
}

/** What a process that starts now would find. */
async function problems(options?: UnsafeSettingsOptions, url = server.url): Promise<string> {
  const sql = connect(url, { max: 1, applicationName: 'ringback tests' })
  const found = await unsafeDatabaseSettings(sql, options).finally(() => sql.end())
  for (const { mend } of found) expect(mend).not.toBe('')
  return found.map(({ problem }) => problem).join('\n')
}

test('a server as it should be has nothing that is unsafe', async () => {
  expect(await problems({ connectionsPerWorker: 20, workerPool: 11 })).toBe('')
})

const SETTINGS: [string, RegExp][] = [
  ['fsync', /fsync is off/],
  ['full_page_writes', /full_page_writes is off/],
  ['synchronous_commit', /synchronous_commit is off/],
]

test.each(SETTINGS)('%s off is found', async (name, problem) => {
  await query(async (sql) => {
    await sql.unsafe(`alter system set ${name} = off`)
    await sql`select pg_reload_conf()`
  })
  await expect.poll(() => problems()).toMatch(problem)
  await query(async (sql) => {
    await sql.unsafe(`alter system set ${name} = on`)
    await sql`select pg_reload_conf()`
  })
  await expect.poll(() => problems()).toBe('')
})

test('a worker tells of what is unsafe when it starts', async () => {
  await using database = await databaseOn(server)
  await query(
    async (sql) =>
      void (await sql.unsafe(`alter database ${database.sql.options.database} set synchronous_commit = off`)),
  )
  const { lines, log } = keptLog('warn')
  await using _worker = await startWorker(database, { log })
  await eventually(async () =>
    expect(JSON.stringify(lines.filter(({ msg }) => msg === 'database.unsafe'))).toContain('synchronous_commit is off'),
  )
})

test('a database that takes no writes is found', async () => {
  await query(async (sql) => void (await sql`alter database ringback set default_transaction_read_only = on`))
  expect(await problems()).toMatch(/default_transaction_read_only is on/)
  await query(async (sql) => {
    await sql`set default_transaction_read_only = off`
    await sql`alter database ringback reset default_transaction_read_only`
  })
})

test('pools that are larger than max_connections are found', async () => {
  expect(await problems({ connectionsPerWorker: 40, workerPool: 11 })).toMatch(/1 worker may open 40/)
})

/** A role without special rights, as shared servers give. */
async function shopRole(name: string, limit: number): Promise<string> {
  await query(
    async (sql) =>
      void (await sql.unsafe(
        `create role ${name} login password 'x' connection limit ${limit} in role ringback_reader`,
      )),
  )
  return server.url.replace('ringback:ringback', `${name}:x`)
}

test('pools that are larger than the limit of their role are found', async () => {
  const url = await shopRole('limited', 6)
  expect(await problems({ connectionsPerWorker: 6 }, url)).toBe('')
  expect(await problems({ connectionsPerWorker: 7 }, url)).toMatch(/limited to 6 connections, and 1 worker may open 7/)
})

test('the connections of other roles are counted by a role that may not read what they do', async () => {
  const url = await shopRole('modest', -1)
  const others = connect(server.url, { max: 20, applicationName: 'a web shop' })
  // Each query opens a connection, which stays.
  await Promise.all(Array.from({ length: 20 }, () => others`select 1`))
  expect(await problems({ connectionsPerWorker: 10 }, url)).toMatch(/1 worker may open 10 beside 20 of others/)
  await others.end()
})

/** Opens so many connections, which stay until the scope ends. */
async function opened(count: number, applicationName: string): Promise<AsyncDisposable> {
  const sql = connect(server.url, { max: count, applicationName })
  await Promise.all(Array.from({ length: count }, () => sql`select 1`))
  return { [Symbol.asyncDispose]: () => sql.end() }
}

test('a server whose connections have nearly run out is found', async () => {
  // Of 30, three are for superusers. The test has one or two itself.
  await using _some = await opened(16, 'a web shop')
  expect(await problems()).toBe('')
  await using _more = await opened(8, 'a web shop')
  expect(await problems()).toMatch(/2[56] of 27 connections are in use/)
})

test('the workers that run are counted by their connections, a part of a pool for one', async () => {
  await using _workers = await opened(5, 'ringback worker')
  expect(await problems({ connectionsPerWorker: 9, workerPool: 2 })).toBe('')
  expect(await problems({ connectionsPerWorker: 10, workerPool: 2 })).toMatch(/3 workers may open 30/)
})

test('a clock that is wrong is found', async () => {
  expect(await problems({ now: () => Date.now() - 20_000 })).toMatch(/clocks .* are (19|20|21) s apart/)
  expect(await problems({ now: () => Date.now() + 3000 })).toBe('')
})

test('an invalid index is found', async () => {
  await query(async (sql) => {
    await sql`create table doubles (id integer)`
    await sql`insert into doubles values (1), (1)`
    await sql`create unique index concurrently doubles_id on doubles (id)`.catch(() => undefined)
  })
  expect(await problems()).toMatch(/index doubles_id of doubles is invalid/)
  await query(async (sql) => void (await sql`drop table doubles`))
})

test('an index that is still being built is not taken for an invalid one', async () => {
  const builder = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await query(async (sql) => {
    await sql`create table growing (id integer)`
    const building = await sql.begin(async (transaction) => {
      await transaction`insert into growing values (1)`
      // It waits for this transaction.
      const created = builder`create index concurrently growing_id on growing (id)`.execute()
      await expect.poll(() => transaction`select from pg_index where not indisvalid`).toHaveLength(1)
      await expect.poll(() => problems()).toBe('')
      return { created }
    })
    await building.created
    await sql`drop table growing`
  })
  await builder.end()
})

test('an archive that takes nothing is found', async () => {
  await archiveBy('false')
  await query(async (sql) => void (await sql`select pg_switch_wal()`))
  await expect.poll(() => problems(), PATIENT).toMatch(/archiving of WAL fails \([0-9A-F]{24}\)/)
  await archiveBy('true')
  await expect.poll(() => problems(), PATIENT).toBe('')
})

test('a replication slot for which 4 GiB are kept and that nobody reads is found, and no other', async () => {
  await query(async (sql) => {
    await sql.unsafe(`
      create schema full_disk;
      create function full_disk.pg_current_wal_lsn() returns pg_lsn return '5/0'::pg_lsn;
      create view full_disk.pg_replication_slots as
      select * from (values
        ('forgotten', false, '3/FFFFFFFF'::pg_lsn), ('stopped', false, '4/0'), ('read', true, '3/0'), ('unused', false, null)
      ) as slots (slot_name, active, restart_lsn)`)
  })
  const found = await problems({}, `${server.url}?search_path=full_disk,pg_catalog,public`)
  expect(found).toMatch(/^nobody reads the replication slot forgotten, for which the server keeps 4096 MB/)
  expect(found.split('\n')).toHaveLength(1)
})

test('migrations of a later version are found', async () => {
  await query(async (sql) => {
    await sql`insert into ringback_migrations (name) values ('9999_later.sql')`
    expect(await unknownMigrations(sql)).toEqual(['9999_later.sql'])
  })
  expect(await problems()).toMatch(/9999_later\.sql, of a later version/)
  await query(async (sql) => void (await sql`delete from ringback_migrations where name = '9999_later.sql'`))
})

test('an encoding that is not UTF8 is found', async () => {
  await query(
    async (sql) =>
      void (await sql`create database latin encoding 'SQL_ASCII' locale 'C' locale_provider libc template template0`),
  )
  expect(await problems({}, server.url.replace(/ringback$/, 'latin'))).toMatch(/encoding is SQL_ASCII/)
})
