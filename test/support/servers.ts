import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createConnection } from 'node:net'
import { migrateQueue } from '@ringback/core/queue'
import { connect, LONG_WORK_MS } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import { getContainerRuntimeClient } from 'testcontainers'
import { PostgreSqlContainer } from '@testcontainers/postgresql'
import { RedisContainer } from '@testcontainers/redis'
import type { TestProject } from 'vitest/node'
import { dataFolder } from './data-folder.ts'
import { freePort } from './free-port.ts'
import { ensureProgram, REDIS_SETTINGS } from './programs.ts'

// Real servers for the service tests: those that TEST_DATABASE_URL and TEST_REDIS_URL name, else containers if there is an
// engine that can get the images, else programs on this machine. Never those of DATABASE_URL and REDIS_URL.

declare module 'vitest' {
  interface ProvidedContext {
    /** The backend on which this project's tests have the queue. */
    queue: 'redis' | 'postgres'
    /** The URL of a server on which tests may make databases. Its path names the migrated one that they copy. */
    templateUrl: string
    redisUrl: string
  }
}

interface Server {
  url: string
  stop: () => Promise<unknown>
}

const CONTAINER_DEADLINE_MS = 120_000

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!project.vitest.projects.some(({ name }) => name.startsWith('services'))) return undefined
  const useContainers = await hasContainerEngine()
  const postgres = await postgresServer(useContainers)
  const redis = await redisServer(useContainers).catch(async (error: unknown) => {
    await postgres.stop()
    throw error
  })
  const template = await createTemplate(postgres.url)
  project.provide('templateUrl', template.url)
  project.provide('redisUrl', redis.url)
  return async () => {
    await template.stop()
    await redis.stop()
    await postgres.stop()
  }
}

/** Makes a migrated database that each test copies, which takes a tenth of a second. */
async function createTemplate(serverUrl: string): Promise<Server> {
  const name = `ringback_template_${process.pid}_${Date.now()}`
  const admin = connect(serverUrl, { max: 1, applicationName: 'ringback tests', longestStatementMs: LONG_WORK_MS })
  await admin`create database ${admin(name)}`
  const url = new URL(serverUrl)
  url.pathname = name
  const sql = connect(url.href, { max: 1, applicationName: 'ringback tests' })
  await migrate(sql)
  await sql.end()
  await migrateQueue({ kind: 'postgres', url: url.href })
  return {
    url: url.href,
    stop: async () => {
      await admin`drop database ${admin(name)} with (force)`
      await admin.end()
    },
  }
}

async function hasContainerEngine(): Promise<boolean> {
  if (process.env.TEST_DATABASE_URL && process.env.TEST_REDIS_URL) return false
  return getContainerRuntimeClient().then(
    () => true,
    () => false,
  )
}

async function postgresServer(useContainers: boolean): Promise<Server> {
  if (process.env.TEST_DATABASE_URL) return { url: process.env.TEST_DATABASE_URL, stop: async () => {} }
  const container = useContainers
    ? await orLocal('postgres:18', () =>
        new PostgreSqlContainer('postgres:18').withStartupTimeout(CONTAINER_DEADLINE_MS).start(),
      )
    : undefined
  if (container !== undefined) return { url: container.getConnectionUri(), stop: () => container.stop() }
  const dataDir = await mkdtemp(join(await dataFolder(), 'ringback-postgres-'))
  // No test crashes the machine, so nothing needs fsync. Without autovacuum, statistics change only when a test wants it.
  const settings = ['fsync=off', 'max_connections=300', 'autovacuum=off']
  const server = await startPostgres({ dataDir, port: await freePort(), settings })
  return {
    url: server.url,
    stop: async () => {
      await server.stop()
      await rm(dataDir, { recursive: true })
    },
  }
}

async function redisServer(useContainers: boolean): Promise<Server> {
  if (process.env.TEST_REDIS_URL) return { url: process.env.TEST_REDIS_URL, stop: async () => {} }
  const container = useContainers
    ? await orLocal('redis:8', () => new RedisContainer('redis:8').withStartupTimeout(CONTAINER_DEADLINE_MS).start())
    : undefined
  if (container !== undefined) return { url: container.getConnectionUrl(), stop: () => container.stop() }
  const program = ensureProgram('redis-server', {
    package: 'redis-server',
    otherwise: ', start a container engine, or set TEST_REDIS_URL to a Redis whose data may be lost',
  })
  const port = await freePort()
  const dataDir = await mkdtemp(join(tmpdir(), 'ringback-redis-'))
  const server = spawn(program, ['--port', String(port), '--dir', dataDir, ...REDIS_SETTINGS], { stdio: 'ignore' })
  await accepts(port)
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: async () => {
      server.kill()
      await once(server, 'exit')
      await rm(dataDir, { recursive: true })
    },
  }
}

async function orLocal<Container>(image: string, start: () => Promise<Container>): Promise<Container | undefined> {
  try {
    return await start()
  } catch (error) {
    console.warn(`No container of ${image} (${(error as Error).message}); taking a program on this machine`)
    return undefined
  }
}

async function accepts(port: number): Promise<void> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const socket = createConnection({ port, host: '127.0.0.1' })
    try {
      await once(socket, 'connect')
      return
    } catch (cause) {
      if (performance.now() > deadline) throw new Error(`redis-server does not answer on port ${port}`, { cause })
      await sleep(50)
    } finally {
      socket.destroy()
    }
  }
}
