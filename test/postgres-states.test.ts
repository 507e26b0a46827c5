import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import type { Config } from '@ringback/core/config'
import { code } from '@ringback/core/handlers'
import { createRegistry } from '@ringback/core/metrics'
import { createConsumer, createProducer, migrateQueue } from '@ringback/core/queue'
import type { QueueJob, QueueServer } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { databaseOn, ownPostgres, standbyOf } from './support/postgres-server.ts'
import type { PostgresServer } from './support/postgres-server.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  keptLog,
  log as silent,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

/** What a statement may take here; a silent connection is given up 5 s later. */
const LONGEST_STATEMENT_MS = 2000

let server: PostgresServer
let admin: Sql

beforeAll(async () => {
  server = await ownPostgres()
  admin = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await admin`create role app login password 'ringback' in role ringback`
}, 60_000)

afterAll(async () => {
  await admin.end({ timeout: 1 })
  await server[Symbol.asyncDispose]()
})

/** Sends callbacks, numbered from 1, and knows which were acknowledged and what the handler has seen of them. */
async function startAll(
  database: Database,
  options: { databaseUrl?: string; queue?: QueueServer; postponedMs?: number } = {},
) {
  const { databaseUrl = database.url, queue = database.queue, postponedMs } = options
  const runs = new Map<string, number>()
  const config: Config = configWith({
    handlers: [
      {
        name: 'count',
        run: code(async ({ callbackId }) => void runs.set(callbackId, (runs.get(callbackId) ?? 0) + 1)),
        retry: { firstDelayMs: 100, maxDelayMs: 100 },
      },
    ],
  })
  const registry = createRegistry()
  const { lines, log } = keptLog()
  const accepted: string[] = []
  let next = 0
  await using stack = new AsyncDisposableStack()
  const ingest = stack.use(await startIngest(database, { config, queue }))
  const worker = stack.use(
    await startWorker(database, {
      config,
      databaseUrl,
      queue,
      log,
      registry,
      longestStatementMs: LONGEST_STATEMENT_MS,
      ...(postponedMs !== undefined && { postponedMs }),
    }),
  )
  const resources = stack.move()
  return {
    worker,
    registry,
    runs,
    accepted,
    hasSaid: (text: string) => JSON.stringify(lines).includes(text),
    said: (text: string) => eventually(async () => expect(JSON.stringify(lines)).toContain(text)),
    async send(count: number) {
      for (const last = next + count; next < last;) {
        next += 1
        const { status } = await postCallbacks(ingest, aCallback(next))
        if (status === 200) accepted.push(String(next))
      }
    },
    /** Everything acknowledged is stored, once, and its handler has run. */
    async isWell(sql: Sql = database.sql) {
      await eventually(async () => {
        const stored = await sql<{ id: string; status: string }[]>`
          select e.callback_id as id, d.status from events as e join deliveries as d on d.event_id = e.id`
        const done = new Set(stored.filter(({ status }) => status === 'succeeded').map(({ id }) => id))
        expect(accepted.filter((id) => !done.has(id))).toEqual([])
        expect(stored.filter(({ status }) => status !== 'succeeded')).toEqual([])
        expect(new Set(stored.map(({ id }) => id)).size).toBe(stored.length)
      }, 40_000)
      expect(accepted.filter((id) => !runs.has(id))).toEqual([])
      expect(await sql`select from quarantine`).toHaveLength(0)
      await eventually(async () => expect(await worker.ready()).toBe(true))
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

type Mend = () => Promise<void>

/** Makes it so, and gives back what undoes it. */
const STATES: [string, () => Promise<Mend>][] = [
  ['stopped and started again (57P01, 57P03)', async () => (await server.stop(), () => server.start())],
  ['killed, and recovering', async () => (await server.kill(), () => server.start())],
  [
    'out of connections (53300)',
    async () => {
      await admin`alter role app connection limit 0`
      await admin`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'`
      return async () => void (await admin`alter role app connection limit -1`)
    },
  ],
  [
    'read-only (25006)',
    async () => {
      await setReadOnly('on')
      return () => setReadOnly('off')
    },
  ],
]

async function setReadOnly(value: 'on' | 'off'): Promise<void> {
  await admin.unsafe(`alter system set default_transaction_read_only = ${value}`)
  await admin`select pg_reload_conf()`
}

/** By a role that may be kept out, as the server's owner may not. */
function asApp(url: string): string {
  const own = new URL(url)
  own.username = 'app'
  return own.href
}

test.each(STATES)('while Postgres is %s the worker waits; then all is stored once and handled', async (_name, make) => {
  await using database = await databaseOn(server)
  const queue = database.queue.kind === 'postgres' ? { ...database.queue, url: asApp(database.url) } : database.queue
  await using ringback = await startAll(database, { databaseUrl: asApp(database.url), queue })
  await ringback.send(10)
  await ringback.isWell()
  const mend = await make()
  await ringback.send(inject('queue') === 'redis' ? 10 : 2)
  if (inject('queue') === 'redis') await ringback.said('group.not_stored')
  await mend()
  await ringback.send(5)
  await ringback.isWell()
})

test('Postgres is frozen for ever while another server answers at its address: silent connections are given up', async () => {
  await using primary = await ownPostgres(['wal_level=replica', 'max_wal_senders=4'])
  await using database = await databaseOn(primary)
  await using standby = await standbyOf(primary)
  await using way = await proxyTo(database.url)
  // From here on a commit is one on both, so that a failover loses nothing.
  await database.sql`alter system set synchronous_standby_names = 'standby'`
  await database.sql`select pg_reload_conf()`
  await eventually(async () =>
    expect(await database.sql`select from pg_stat_replication where sync_state = 'sync'`).toHaveLength(1),
  )
  const queue = database.queue.kind === 'postgres' ? { ...database.queue, url: way.url } : database.queue
  await using ringback = await startAll(database, { databaseUrl: way.url, queue })
  await ringback.send(10)
  await ringback.isWell()

  primary.freeze()
  const standbyUrl = databaseUrlOn(standby, database)
  const replica = connect(standbyUrl, { max: 2, applicationName: 'ringback tests' })
  // Connections lead to a standby first, which takes no writes; then it is promoted.
  way.lead(standbyUrl)
  await ringback.send(3)
  await ringback.said('CONNECTION_SILENT')
  await replica`select pg_promote()`
  await ringback.send(5)
  await ringback.isWell(replica)
  await replica.end({ timeout: 1 })
  primary.thaw()
})

function databaseUrlOn(standby: PostgresServer, { url }: Database): string {
  const own = new URL(url)
  own.port = String(standby.port)
  return own.href
}

/** Only root may mount, and not everywhere. */
function mountSmallDisk(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'ringback-small-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=777', 'tmpfs', folder], { stdio: 'ignore' })
    return folder
  } catch {
    return undefined
  }
}

test('while the disk is full (53100) the worker waits; then all is stored once and handled', async ({ skip }) => {
  const disk = process.getuid?.() === 0 ? mountSmallDisk() : undefined
  if (disk === undefined) return skip('a small disk can only be mounted by root')
  const filler = join(disk, 'filler')
  try {
    await using full = await ownPostgres(['autovacuum=off'])
    execFileSync('chown', ['--reference', full.dataDir, disk])
    const owner = connect(full.url, { max: 1, applicationName: 'ringback tests' })
    await owner.unsafe(`create tablespace small location '${disk}'`)
    await owner.end()
    await using database = await databaseOn(full, 'small')
    await using ringback = await startAll(database)
    await ringback.send(5)
    await ringback.isWell()
    expect(() => execFileSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k'], { stdio: 'ignore' })).toThrow()
    if (inject('queue') === 'redis') {
      while (!ringback.hasSaid('53100')) await ringback.send(20)
    } else {
      await ringback.send(20)
    }
    await rm(filler)
    await ringback.isWell()
  } finally {
    execFileSync('umount', ['-l', disk])
    await rm(disk, { recursive: true })
  }
})

test('what is locked, or monstrous, lets others go first; one that alone cannot be stored goes to quarantine', async () => {
  await using database = await databaseOn(server)
  // Takes longer than a statement may, for one callback.
  await database.sql.unsafe(`
    create function dawdle() returns trigger language plpgsql as $$
    begin
      if new.callback_id = '1' then perform pg_sleep(60); end if;
      return new;
    end $$;
    create trigger dawdle before insert on event_names for each row execute function dawdle()`)
  await using ringback = await startAll(database, { postponedMs: 200 })
  await ringback.send(1)
  await ringback.said('group.postponed')
  expect(await ringback.registry.metrics()).toMatch(/^ringback_groups_postponed_total\{reason="not_stored"\} [1-9]/m)
  await ringback.send(10)
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(10))
  await eventually(async () => {
    expect(await database.sql`select reason, callback_id from quarantine`).toEqual([
      { reason: 'not_storable', callback_id: '1' },
    ])
  }, 40_000)
})

test('a job of a later version is kept for a worker that can read it, and holds up nobody', async () => {
  await using database = await databaseOn(server)
  const producer = createProducer<object>(database.queue, 'store', { timeoutMs: 2000, log: silent })
  await producer.add('group-of-tomorrow', { version: '2', parts: 'in another way' })
  {
    await using ringback = await startAll(database, { postponedMs: 500 })
    await ringback.said('group.unreadable')
    await ringback.send(5)
    await ringback.isWell()
  }
  const seen: QueueJob[] = []
  const stopping = new AbortController().signal
  const later = await createConsumer(
    database.queue,
    'store',
    { concurrency: 1, log: silent, stopping },
    async (job) => {
      seen.push(job)
    },
  )
  await eventually(async () =>
    expect(seen.filter(({ id }) => id === 'group-of-tomorrow')).toEqual([
      { id: 'group-of-tomorrow', data: { version: '2', parts: 'in another way' }, stalls: 0 },
    ]),
  )
  await later.close()
  await producer.close()
})

test('while commits hang a queue in Postgres takes nothing, and few connections; then it goes on', async () => {
  await using own = await ownPostgres()
  const queue: QueueServer = { kind: 'postgres', url: own.url }
  await migrateQueue(queue)
  const operator = connect(own.url, { max: 1, applicationName: 'ringback tests' })
  const producer = createProducer<object>(queue, 'store', { timeoutMs: 300, log: silent })
  await producer.add('group-1', {})
  // As while a synchronous standby is away.
  await operator`alter system set synchronous_standby_names = 'nobody'`
  await operator`select pg_reload_conf()`
  let added = 1
  const add = (to = producer) => to.add(`group-${(added += 1)}`, {})
  await eventually(() => expect(add()).rejects.toThrow('did not answer within'))
  for (let round = 0; round < 10; round++) {
    await expect(producer.probe()).rejects.toThrow()
    await expect(add()).rejects.toThrow()
    await expect(producer.detectLoss()).rejects.toThrow()
  }
  const another = createProducer<object>(queue, 'store', { timeoutMs: 300, log: silent })
  await expect(add(another)).rejects.toThrow('it waits for')
  const stuck = await operator`
    select from pg_stat_activity
    where application_name = 'ringback store producer' and state = 'active' and pid <> pg_backend_pid()`
  expect(stuck.length).toBeLessThan(4)
  await operator`alter system reset synchronous_standby_names`
  await operator`select pg_reload_conf()`
  for (const each of [producer, another]) {
    await eventually(() => each.probe())
    await add(each)
    await each.close()
  }
  await operator.end({ timeout: 1 })
})

test('a large job that is on its way to a queue in Postgres holds up no other', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.url, { tag: /the end/ })
  way.freezeTagged()
  const producerTo = (url: string, timeoutMs: number) =>
    createProducer<object>({ kind: 'postgres', url }, 'store', { timeoutMs, log: silent })
  const slow = producerTo(way.url, 60_000)
  const adding = expect(slow.add('group-1', { text: `${'x'.repeat(1_000_000)}the end` })).rejects.toThrow()
  await eventually(async () =>
    expect(
      await database.sql`
        select from pg_stat_activity
        where application_name = 'ringback store producer' and datname = current_database() and state = 'active'
          and query_start < now() - interval '1 second'`,
    ).toHaveLength(1),
  )
  const other = producerTo(database.url, 2000)
  await other.add('group-2', {})
  await other.close()
  await Promise.all([adding, way.cut()])
  await slow.close()
})

test('deliveries and retries that the queue forgot are run all the same', async () => {
  await using database = await databaseOn(server)
  let isBroken = true
  const config = configWith({
    handlers: [
      {
        name: 'mended',
        run: code(async () => {
          if (isBroken) throw new Error('not yet')
        }),
        retry: { firstDelayMs: 500, maxDelayMs: 500, maxAttempts: 100 },
      },
    ],
  })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  for (let id = 1; id <= 20; id++) expect((await postCallbacks(ingest, aCallback(id))).status).toBe(200)
  await eventually(async () =>
    expect(await database.sql`select from attempts where outcome = 'failed'`).not.toHaveLength(0),
  )
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(20))
  await forgetJobs(database)
  isBroken = false
  // What a scanner had just taken is its for 30 s.
  await eventually(
    async () => expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(20),
    60_000,
  )
}, 90_000)

async function forgetJobs({ queue, sql }: Database): Promise<void> {
  if (queue.kind === 'postgres') {
    await sql`delete from bullmq.job`
    return
  }
  const redis = new Redis(queue.url)
  await redis.del(await redis.keys(`${queue.prefix}*`))
  redis.disconnect()
}
