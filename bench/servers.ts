import { chmodSync, mkdtempSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { startProgram, untilReady } from './program.ts'
import type { Program } from './program.ts'

/** Redis and Postgres as Ringback asks for them, durable, and used by every design alike. */
export interface Servers {
  /** For files of the benchmark; gone afterwards. */
  dir: string
  redis: Program
  redisUrl: string
  postgresPid: number
  /** Empties Redis. */
  emptyRedis: () => Promise<void>
  /** Makes an empty database, in the place of one that may be there, and returns its URL. */
  emptyDatabase: (name: string) => Promise<string>
  versions: { redis: string; postgres: string }
}

/** The servers end with `resources`, and their files go. */
export async function startServers(resources: AsyncDisposableStack): Promise<Servers> {
  const dir = mkdtempSync(join(tmpdir(), 'ringback-bench-'))
  resources.defer(() => rm(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755) // root's Postgres runs as somebody else
  const redis = await startRedis(resources, dir)
  const database = await startDatabase(resources, dir)

  return {
    dir,
    redis: redis.program,
    redisUrl: redis.url,
    postgresPid: database.pid,
    emptyRedis: async () => void (await redis.client.flushall()),
    async emptyDatabase(name) {
      await database.sql`drop database if exists ${database.sql(name)} with (force)`
      await database.sql`create database ${database.sql(name)}`
      // What earlier runs left in memory is written now, and not while the next one is measured.
      await database.sql`checkpoint`
      return Object.assign(new URL(database.url), { pathname: name }).href
    },
    versions: {
      redis: /redis_version:(\S+)/.exec(await redis.client.info('server'))?.[1] ?? '',
      postgres: (await database.sql<{ server_version: string }[]>`show server_version`)[0]!.server_version,
    },
  }
}

async function startRedis(resources: AsyncDisposableStack, dir: string) {
  const port = await freePort()
  const program = startProgram(resources, {
    command: 'redis-server',
    // oxfmt-ignore
    args: [
      '--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '',
      '--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction',
    ],
    logFile: join(dir, 'redis.log'),
  })
  const url = `redis://127.0.0.1:${port}`
  const client = new Redis(url, { maxRetriesPerRequest: null })
  client.on('error', () => {}) // not up yet, or about to end
  resources.defer(() => client.disconnect())
  await untilReady(program, async () => (await client.ping()) === 'PONG')
  return { program, url, client }
}

async function startDatabase(resources: AsyncDisposableStack, dir: string) {
  const starting = startPostgres({
    dataDir: join(dir, 'data'),
    port: await freePort(),
    settings: ['shared_buffers=1GB', 'fsync=on', 'synchronous_commit=on'],
  })
  resources.defer(async () => (await starting.catch(() => undefined))?.stop())
  const { url, dataDir } = await starting
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  resources.defer(() => sql.end({ timeout: 1 }))
  return { url, sql, pid: Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0]) }
}

/** A port that nothing listens on just now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
