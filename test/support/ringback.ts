import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { Redis } from 'ioredis'
import { inject, vi } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import type { QueuedCallback, QueuedRefusal, StoreJob } from '@ringback/core/callback'
import { resolveConfig } from '@ringback/core/config'
import type { Config, ConfigDefinition } from '@ringback/core/config'
import { createLogger } from '@ringback/core/log'
import { demoCredentials, signCallbackId, voximplant } from '@ringback/core/providers/voximplant'
import type { QueueJob, QueueServer } from '@ringback/core/queue'
import { connect, LONG_WORK_MS } from '@ringback/core/store/connect'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { createIngest } from '@ringback/ingest/ingest'
import type { Ingest, IngestOptions } from '@ringback/ingest/ingest'
import { createStoreEvents } from '@ringback/worker/store-events'
import type { StoreDependencies } from '@ringback/worker/store-events'
import { createWorker } from '@ringback/worker/worker'
import type { Worker, WorkerOptions } from '@ringback/worker/worker'

export const log = createLogger('test', process.env.TEST_LOG_LEVEL ?? 'silent')

/** A logger that keeps its lines. */
export function keptLog(level: 'info' | 'warn' = 'info') {
  const lines: Record<string, unknown>[] = []
  const write = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>)
  return { lines, log: createLogger('test', level, { write }) }
}

/** Connects to make and drop databases, which waits for the disk and has no tight time limit. */
export function connectAsAdmin(url: string): Sql {
  return connect(url, { max: 1, applicationName: 'ringback tests', longestStatementMs: LONG_WORK_MS })
}

/** Makes a migrated database and a queue for one test. The database is dropped at the end of the scope. */
export async function freshDatabase(): Promise<Database> {
  const templateUrl = new URL(inject('templateUrl'))
  const template = templateUrl.pathname.slice(1)
  const name = `test_${randomBytes(8).toString('hex')}`
  const admin = connectAsAdmin(new URL('/postgres', templateUrl).href)
  await admin`create database ${admin(name)} template ${admin(template)}`
  const url = new URL(`/${name}`, templateUrl).href
  const sql = connect(url, { max: 5, applicationName: 'ringback tests' })
  return {
    url,
    sql,
    queue: queueFor(url, name),
    async [Symbol.asyncDispose]() {
      await sql.end()
      await admin`drop database ${admin(name)} with (force)`
      await admin.end()
    },
  }
}

/** The queue of a database, on this test project's kind of server. `name` keeps it apart from those of other databases. */
export function queueFor(databaseUrl: string, name: string): QueueServer {
  return inject('queue') === 'redis'
    ? { kind: 'redis', url: inject('redisUrl'), prefix: `{${name}}` }
    : { kind: 'postgres', url: databaseUrl }
}

/**
 * The URL of an empty Redis database, for processes, which know no queue prefix. Each of vitest's workers has one, because
 * it runs one test at a time.
 */
export async function ownRedis(): Promise<string> {
  const url = `${inject('redisUrl')}/${process.env.VITEST_POOL_ID}`
  const client = new Redis(url)
  await client.flushdb()
  client.disconnect()
  return url
}

/** A worker's processor of store jobs, one job at a time. */
export function storeOneByOne(
  database: Pick<Database, 'sql'>,
  options: Partial<StoreDependencies> = {},
): (job: QueueJob) => Promise<void> {
  const store = storeRounds(database, options)
  return (job) => store([job])[0]!
}

/** A worker's processor of store jobs. */
export function storeRounds({ sql }: Pick<Database, 'sql'>, options: Partial<StoreDependencies> = {}) {
  const { signal } = new AbortController()
  return createStoreEvents({ sql, handlers: [], enqueueDeliveries: async () => {}, log, signal, ...options })
}

/** Stores what an ingest has counted of one source. Resolves to how many refusals in a row there are then. */
export async function storeCounts({ sql }: Pick<Database, 'sql'>, fields: Record<string, unknown>): Promise<number> {
  const counts = [{ minute: minutesAgo(0), source: 'vobiz', outcomes: {}, ackMs: [], refusedInARow: 0, ...fields }]
  await sql`select store_counts(${JSON.stringify(counts)})`
  const [state] = await sql<{ n: number }[]>`select refused_in_a_row::integer as n from source_states`
  return state!.n
}

/** A pool for transactions only. While `isLost` says so, each is committed and its answer is lost, as when a connection breaks. */
export function losingAnswers(sql: Sql, isLost: () => boolean = () => true): Sql {
  return {
    async begin(work: (transaction: TransactionSql) => unknown) {
      const result = await sql.begin(work)
      if (isLost()) throw new Error('the answer was lost')
      return result
    },
  } as Sql
}

/** The variables that tell processes of a database and its queue. */
export async function environmentFor(database: Database): Promise<Record<string, string>> {
  const queue = inject('queue') === 'redis' ? { REDIS_URL: await ownRedis() } : {}
  return { DATABASE_URL: database.url, ...queue }
}

export interface Database extends AsyncDisposable {
  url: string
  sql: Sql
  queue: QueueServer
}

/** A configuration with one source `voximplant` with the public credentials, and what `definition` adds. */
export function configWith(definition: Partial<ConfigDefinition> = {}): Config {
  const { accountId, apiKey, salt } = demoCredentials
  return resolveConfig(
    { sources: { voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] }) }, ...definition },
    {},
  )
}

/** Starts an ingest on a free port, with the queue of `database`. It ends with its scope. */
export async function startIngest(
  database: Database,
  options: Partial<IngestOptions> = {},
): Promise<Ingest & AsyncDisposable> {
  const ingest = await createIngest({
    config: configWith(),
    queue: database.queue,
    log,
    hostname: '127.0.0.1',
    port: 0,
    ...options,
  })
  return { ...ingest, [Symbol.asyncDispose]: ingest.close }
}

/** Starts a worker on `database` and its queue. It ends with its scope. */
export async function startWorker(
  database: Database,
  options: Partial<WorkerOptions> = {},
): Promise<Worker & AsyncDisposable> {
  const worker = await createWorker({
    config: configWith(),
    databaseUrl: database.url,
    queue: database.queue,
    log,
    onStuck: () => {
      throw new Error('the worker is stuck')
    },
    ...options,
  })
  return { ...worker, [Symbol.asyncDispose]: worker.close }
}

/** A callback as Voximplant sends it, genuine unless `hash` says otherwise. */
export function aCallback(callbackId: string | number, fields: Record<string, unknown> = {}): Record<string, unknown> {
  const hash = signCallbackId(demoCredentials, String(callbackId))
  return {
    callback_id: callbackId,
    type: 'sms_inbound',
    account_id: Number(demoCredentials.accountId),
    hash,
    ...fields,
  }
}

/** Posts a JSON body to an ingest. */
export function post(
  ingest: { port: number },
  body: string | Buffer,
  path = '/callbacks/voximplant',
): Promise<Response> {
  const url = `http://127.0.0.1:${ingest.port}${path}`
  return fetch(url, {
    method: 'POST',
    body: new Uint8Array(Buffer.from(body)),
    headers: { 'content-type': 'application/json' },
  })
}

/** Posts one request with these callbacks to an ingest. */
export function postCallbacks(ingest: { port: number }, ...callbacks: unknown[]): Promise<Response> {
  return post(ingest, JSON.stringify({ callbacks }))
}

/** A callback as ingest adds it to the queue. */
export function queued(callbackId: string, fields: Partial<QueuedCallback> = {}): QueuedCallback {
  const raw = fields.raw ?? Buffer.from(JSON.stringify({ callback_id: callbackId })).toString('base64')
  return {
    id: randomUUIDv7(),
    source: 'voximplant',
    accountId: '1',
    callbackId,
    type: 'min_balance',
    verifiedBy: 'id',
    occurredAt: new Date().toISOString(),
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: {},
    ...fields,
    raw,
  }
}

/** A job of the store queue. */
export function groupOf(callbacks: QueuedCallback[], quarantined: QueuedRefusal[] = []): QueueJob & { data: StoreJob } {
  const parts = [
    ...callbacks.map((callback) => ({ kind: 'callbacks' as const, json: JSON.stringify(callback) })),
    ...quarantined.map((refusal) => ({ kind: 'quarantined' as const, json: JSON.stringify(refusal) })),
  ]
  return { id: `group-${randomUUIDv7()}`, data: storeJob(parts) }
}

/** Waits until `check` no longer throws, and resolves to its result. */
export function eventually<Result>(check: () => Promise<Result>, timeout = 30_000): Promise<Result> {
  return vi.waitFor(check, { timeout, interval: 50 })
}

/** Waits until a session of this database waits for an advisory lock. */
export async function untilAdvisoryLockIsWaitedFor({ sql }: Pick<Database, 'sql'>): Promise<void> {
  await eventually(async () => {
    const waiting = await sql`
      select from pg_locks join pg_database on pg_database.oid = database
      where locktype = 'advisory' and not granted and datname = current_database()`
    if (waiting.length !== 1) throw new Error(`${waiting.length} sessions wait for an advisory lock`)
  })
}

/** A UUIDv7 of that time. */
export function idAt(time: string): string {
  const hex = Date.parse(time).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}${randomUUIDv7().slice(13)}`
}

export function minutesAgo(minutes: number): Date {
  return new Date(Date.now() - minutes * 60_000)
}
