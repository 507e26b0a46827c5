import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { migrateQueue, queueServer } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import postgres from 'postgres'
import { credentials } from './callbacks.ts'
import { startProgram, untilReady } from './program.ts'
import type { Program } from './program.ts'
import { freePort } from './servers.ts'
import type { Servers } from './servers.ts'

/**
 * A way to get callbacks from HTTP into Postgres. Each listens for them at `/callbacks/voximplant` and stores them in a
 * table `events` of a database of its own.
 */
export interface Design {
  name: string
  database: string
  ingest: string
  worker?: string
  usesRedis: boolean
  /** Variables beside those that every design gets. */
  environment?: Record<string, string>
  /** Whether each event has a delivery, whose end belongs to the run. */
  hasDeliveries?: boolean
  /** Makes what it needs in its empty database. */
  prepare: (databaseUrl: string) => Promise<void>
}

const ringbackPrograms = { ingest: 'apps/ingest/src/main.ts', worker: 'apps/worker/src/main.ts' }

export const ringback: Design = {
  name: 'Ringback',
  database: 'bench_ringback',
  ...ringbackPrograms,
  usesRedis: true,
  prepare: migrateRingback,
}

export const naive: Design = {
  name: 'naive: one BullMQ job a request',
  database: 'bench_naive',
  ingest: 'bench/naive/ingest.ts',
  worker: 'bench/naive/worker.ts',
  usesRedis: true,
  prepare: makeNaiveTable,
}

const withoutQueue: Design = {
  name: 'no queue: INSERT before the answer',
  database: 'bench_without_queue',
  ingest: 'bench/naive/ingest-without-queue.ts',
  usesRedis: false,
  prepare: makeNaiveTable,
}

const ringbackWithoutRedis: Design = {
  name: 'Ringback without Redis',
  database: 'bench_ringback_without_redis',
  ...ringbackPrograms,
  usesRedis: false,
  async prepare(databaseUrl) {
    await migrateRingback(databaseUrl)
    await migrateQueue(queueServer({ redisUrl: undefined, databaseUrl }))
  },
}

export const designs: readonly Design[] = [ringback, naive, withoutQueue, ringbackWithoutRedis]

async function migrateRingback(databaseUrl: string): Promise<void> {
  const sql = connect(databaseUrl, { max: 1, applicationName: 'ringback migrate' })
  await migrate(sql).finally(() => sql.end())
}

async function makeNaiveTable(databaseUrl: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1 })
  const table = await readFile(join(import.meta.dirname, 'naive/table.sql'), 'utf8')
  await sql.unsafe(table).finally(() => sql.end())
}

/** A design at work. */
export interface RunningDesign {
  url: string
  databaseUrl: string
  ingest: Program
  worker: Program | undefined
  /** Starts one more worker. */
  addWorker: () => Promise<Program>
  stop: () => Promise<void>
}

/** Starts a design as its users would, each program a process of its own, with nothing stored yet. */
export async function startDesign(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
): Promise<RunningDesign> {
  const databaseUrl = await servers.emptyDatabase(design.database)
  await design.prepare(databaseUrl)
  const port = await freePort()

  async function startNode(file: string): Promise<Program> {
    const opsPort = await freePort()
    return startProgram(resources, {
      command: process.execPath,
      args: [resolve(import.meta.dirname, '..', file)],
      environment: {
        PATH: process.env.PATH,
        NODE_OPTIONS: process.env.NODE_OPTIONS,
        HOST: '127.0.0.1',
        PORT: String(port),
        OPS_PORT: String(opsPort),
        DATABASE_URL: databaseUrl,
        REDIS_URL: design.usesRedis ? servers.redisUrl : undefined,
        VOXIMPLANT_ACCOUNT_ID: credentials.accountId,
        VOXIMPLANT_API_KEY: credentials.apiKey,
        VOXIMPLANT_SALT: credentials.salt,
        ...design.environment,
      },
      logFile: join(servers.dir, `${design.database}-${file.replaceAll('/', '-')}.log`),
    })
  }

  const ingest = await startNode(design.ingest)
  const worker = design.worker === undefined ? undefined : await startNode(design.worker)
  await untilReady(ingest, async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok)
  return {
    url: `http://127.0.0.1:${port}/callbacks/voximplant`,
    databaseUrl,
    ingest,
    worker,
    async addWorker() {
      if (design.worker === undefined) throw new Error(`${design.name} has no worker`)
      return startNode(design.worker)
    },
    stop: async () => void (await Promise.all([ingest.stop(), worker?.stop()])),
  }
}
