import { chmodSync, mkdtempSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { freePort } from '../test/support/free-port.ts'
import { ensureProgram, REDIS_SETTINGS } from '../test/support/programs.ts'
import { buildFsyncDelay } from './fsync-delay.ts'
import { startProgram, untilReady } from './program.ts'
import type { Program } from './program.ts'

/** Redis and Postgres with the durable settings that Ringback asks for. Every design uses them alike. */
export interface Servers {
  /** A folder for the benchmark's files, which is removed afterwards. */
  dir: string
  redis: Program
  redisUrl: string
  postgresPid: number
  /** Empties Redis. */
  emptyRedis: () => Promise<void>
  setAppendfsync: (value: 'always' | 'everysec') => Promise<void>
  /** Resolves to how many commands Redis has processed, this question included. */
  redisCommands: () => Promise<number>
  /** Resolves to how many transactions a database has had, not counting those of this question. */
  transactions: (database: string) => Promise<number>
  /** Makes an empty database, replacing one of that name, and resolves to its URL. */
  emptyDatabase: (name: string) => Promise<string>
  versions: { redis: string; postgres: string }
}

/**
 * Starts the servers. They end with `resources`, and their files are removed.
 * @param fsyncDelayMs added to each fsync of both servers; needs a C compiler, see fsync-delay.ts
 */
export async function startServers(
  resources: AsyncDisposableStack,
  { fsyncDelayMs = 0 }: { fsyncDelayMs?: number } = {},
): Promise<Servers> {
  const dir = mkdtempSync(join(tmpdir(), 'ringback-bench-'))
  resources.defer(() => rm(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755) // root's Postgres runs as somebody else
  const environment = fsyncDelayMs === 0 ? {} : buildFsyncDelay(dir, fsyncDelayMs)
  const redis = await startRedis(resources, dir, environment)
  const database = await startDatabase(resources, dir, environment)

  return {
    dir,
    redis: redis.program,
    redisUrl: redis.url,
    postgresPid: database.pid,
    emptyRedis: async () => void (await redis.client.flushall()),
    setAppendfsync: async (value) => void (await redis.client.config('SET', 'appendfsync', value)),
    redisCommands: async () =>
      Number(/total_commands_processed:(\d+)/.exec(await redis.client.info('stats'))?.[1] ?? Number.NaN),
    async transactions(name) {
      const [row] = await database.sql<{ count: number }[]>`
        select (xact_commit + xact_rollback)::float8 as count from pg_stat_database where datname = ${name}`
      return row?.count ?? Number.NaN
    },
    async emptyDatabase(name) {
      await database.sql`drop database if exists ${database.sql(name)} with (force)`
      await database.sql`create database ${database.sql(name)}`
      // Writes what earlier runs left in memory now, and not while the next one is measured.
      await database.sql`checkpoint`
      return Object.assign(new URL(database.url), { pathname: name }).href
    },
    versions: {
      redis: /redis_version:(\S+)/.exec(await redis.client.info('server'))?.[1] ?? '',
      postgres: (await database.sql<{ server_version: string }[]>`show server_version`)[0]!.server_version,
    },
  }
}

async function startRedis(resources: AsyncDisposableStack, dir: string, environment: Record<string, string>) {
  const port = await freePort()
  const program = startProgram(resources, {
    command: ensureProgram('redis-server', { package: 'redis-server' }),
    args: ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, ...REDIS_SETTINGS],
    environment: { ...process.env, ...environment },
    logFile: join(dir, 'redis.log'),
  })
  const url = `redis://127.0.0.1:${port}`
  const client = new Redis(url, { maxRetriesPerRequest: null })
  client.on('error', () => {}) // not up yet, or about to end
  resources.defer(() => client.disconnect())
  await untilReady(program, async () => (await client.ping()) === 'PONG')
  return { program, url, client }
}

async function startDatabase(resources: AsyncDisposableStack, dir: string, environment: Record<string, string>) {
  const options = {
    dataDir: join(dir, 'data'),
    port: await freePort(),
    settings: ['shared_buffers=1GB', 'fsync=on', 'synchronous_commit=on', 'min_wal_size=1GB', 'max_wal_size=2GB'],
  }
  // Postgres takes its environment from this process. The folder is made without the delay, because that takes 1000 fsyncs.
  if (Object.keys(environment).length > 0) await (await startPostgres(options)).stop()
  Object.assign(process.env, environment)
  const starting = startPostgres(options).finally(() => {
    for (const name of Object.keys(environment)) delete process.env[name]
  })
  resources.defer(async () => (await starting.catch(() => undefined))?.stop())
  const { url, dataDir } = await starting
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  resources.defer(() => sql.end({ timeout: 1 }))
  await fillWal(sql)
  return { url, sql, pid: Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0]) }
}

/**
 * Makes Postgres create its WAL files, which it then reuses, like a server that has run for a day. Creating them during a
 * run, with 16 MB of zeros each, would slow the disk for everybody.
 */
async function fillWal(sql: postgres.Sql): Promise<void> {
  await sql`select pg_logical_emit_message(false, 'bench', repeat('x', 1000000)) from generate_series(1, 1200)`
  await sql`checkpoint`
}
