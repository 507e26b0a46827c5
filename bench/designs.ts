import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { migrateQueue } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import { runMigrations } from 'graphile-worker'
import postgres from 'postgres'
import { freePort } from '../test/support/free-port.ts'
import { credentialVariables } from './callbacks.ts'
import { startProgram, untilReady } from './program.ts'
import type { Program } from './program.ts'
import type { Servers } from './servers.ts'

/**
 * A way to bring callbacks from HTTP into Postgres; some designs store nothing. Each takes callbacks at
 * `/callbacks/voximplant` and stores them in a table `events` of a database of its own.
 */
export interface Design {
  name: string
  database: string
  ingest: string
  worker?: string
  usesRedis: boolean
  /** Default: `always`, which is on disk before the answer. */
  appendfsync?: 'always' | 'everysec'
  /** Whether it only answers. */
  storesNothing?: boolean
  /** Variables besides those that every design gets. */
  environment?: Record<string, string>
  /** Whether each event has a delivery, for whose end the run waits. */
  hasDeliveries?: boolean
  /** Makes what the design needs in its empty database. */
  prepare: (databaseUrl: string) => Promise<void>
}

export const ringback: Design = {
  name: 'Ringback',
  database: 'bench_ringback',
  ingest: 'apps/ingest/src/main.ts',
  worker: 'apps/worker/src/main.ts',
  usesRedis: true,
  prepare: migrateRingback,
}

export const ringbackEverysec: Design = {
  ...ringback,
  name: 'Ringback, everysec',
  database: 'bench_ringback_everysec',
  appendfsync: 'everysec',
}

export const ringbackWithoutRedis: Design = {
  ...ringback,
  name: 'Ringback without Redis',
  database: 'bench_ringback_without_redis',
  usesRedis: false,
  async prepare(databaseUrl) {
    await migrateRingback(databaseUrl)
    await migrateQueue({ kind: 'postgres', url: databaseUrl })
  },
}

function withConfig(name: string): Pick<Design, 'environment'> {
  return { environment: { RINGBACK_CONFIG: join(import.meta.dirname, `handlers/${name}.config.ts`) } }
}

export const ringbackNoHandler: Design = { ...ringback, name: 'Ringback, no handler', ...withConfig('none') }

export const ringbackNoopHandler: Design = {
  ...ringback,
  name: 'Ringback, a handler for every event',
  ...withConfig('noop'),
  hasDeliveries: true,
}

export const naive: Design = {
  name: 'naive: one BullMQ job a request',
  database: 'bench_naive',
  ingest: 'bench/naive/ingest.ts',
  worker: 'bench/naive/worker.ts',
  usesRedis: true,
  prepare: makeNaiveTable,
}

export const withoutQueue: Design = {
  name: 'no queue: INSERT before the answer',
  database: 'bench_without_queue',
  ingest: 'bench/naive/ingest-without-queue.ts',
  usesRedis: false,
  prepare: makeNaiveTable,
}

export const pgBoss: Design = {
  name: 'pg-boss',
  database: 'bench_pg_boss',
  ingest: 'bench/pg-boss/ingest.ts',
  worker: 'bench/pg-boss/worker.ts',
  usesRedis: false,
  prepare: makeNaiveTable,
}

export const graphileWorker: Design = {
  name: 'graphile-worker',
  database: 'bench_graphile_worker',
  ingest: 'bench/graphile-worker/ingest.ts',
  worker: 'bench/graphile-worker/worker.ts',
  usesRedis: false,
  async prepare(databaseUrl) {
    await makeNaiveTable(databaseUrl)
    await runMigrations({ connectionString: databaseUrl })
  },
}

const answersOnly = { database: 'bench_nothing', usesRedis: false, storesNothing: true, prepare: async () => {} }

export const bareHttp: Design = { name: 'bare node:http, stores nothing', ingest: 'bench/bare/http.ts', ...answersOnly }

export const bareHono: Design = { name: 'bare Hono, stores nothing', ingest: 'bench/bare/hono.ts', ...answersOnly }

/** Voximplant's own example. */
export const expressHandler: Design = {
  name: 'the Express handler, stores nothing',
  ingest: 'bench/express/ingest.ts',
  ...answersOnly,
}

async function migrateRingback(databaseUrl: string): Promise<void> {
  const sql = connect(databaseUrl, { max: 1, applicationName: 'ringback migrate' })
  await migrate(sql).finally(() => sql.end())
}

async function makeNaiveTable(databaseUrl: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1 })
  const table = await readFile(join(import.meta.dirname, 'naive/table.sql'), 'utf8')
  await sql.unsafe(table).finally(() => sql.end())
}

/** A design that runs. */
export interface RunningDesign {
  url: string
  databaseUrl: string
  ingest: Program
  /** The URLs of all its ingests, the first included. */
  urls: string[]
  ingests: Program[]
  workers: Program[]
  /** Starts one more worker. */
  addWorker: () => Promise<Program>
  stop: () => Promise<void>
}

export interface DesignShape {
  /** How many processes of each kind of program. Default: 1. */
  processes?: number
  /** Leaves the workers out: `addWorker` may start them later. */
  withoutWorkers?: boolean
}

/** Starts a design as its users would, each program a process of its own, with nothing stored yet. */
export async function startDesign(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
  { processes = 1, withoutWorkers = false }: DesignShape = {},
): Promise<RunningDesign> {
  await servers.setAppendfsync(design.appendfsync ?? 'always')
  const databaseUrl = await servers.emptyDatabase(design.database)
  await design.prepare(databaseUrl)
  let started = 0

  async function startNode(file: string, port: number): Promise<Program> {
    const opsPort = await freePort()
    started += 1
    return startProgram(resources, {
      command: process.execPath,
      args: [resolve(import.meta.dirname, '..', file)],
      environment: {
        PATH: process.env.PATH,
        NODE_OPTIONS: process.env.NODE_OPTIONS,
        HOST: '127.0.0.1',
        PORT: String(port),
        OPS_PORT: String(opsPort),
        // No load balancer needs to notice that it leaves.
        SHUTDOWN_DELAY_MS: '0',
        SPOOL_DIR: join(servers.dir, 'spool'),
        DATABASE_URL: databaseUrl,
        REDIS_URL: design.usesRedis ? servers.redisUrl : undefined,
        ...credentialVariables,
        ...design.environment,
      },
      logFile: join(servers.dir, `${design.database}-${file.replaceAll('/', '-')}-${started}.log`),
    })
  }

  async function startIngest(): Promise<{ program: Program; origin: string }> {
    const port = await freePort()
    return { program: await startNode(design.ingest, port), origin: `http://127.0.0.1:${port}` }
  }

  async function addWorker(): Promise<Program> {
    if (design.worker === undefined) throw new Error(`${design.name} has no worker`)
    const worker = await startNode(design.worker, 0)
    workers.push(worker)
    return worker
  }

  const ingests = await Promise.all(Array.from({ length: processes }, startIngest))
  const workers: Program[] = []
  if (design.worker !== undefined && !withoutWorkers)
    await Promise.all(Array.from({ length: processes }, () => addWorker()))
  for (const { program, origin } of ingests) await untilReady(program, async () => (await fetch(`${origin}/readyz`)).ok)
  const urls = ingests.map(({ origin }) => `${origin}/callbacks/voximplant`)
  const programs = ingests.map(({ program }) => program)
  return {
    url: urls[0]!,
    databaseUrl,
    ingest: programs[0]!,
    urls,
    ingests: programs,
    workers,
    addWorker,
    stop: async () => void (await Promise.all([...programs, ...workers].map((program) => program.stop()))),
  }
}
