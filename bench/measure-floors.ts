import { join } from 'node:path'
import { credentialVariables } from './callbacks.ts'
import { bareHono, ringback } from './designs.ts'
import { measureLoad } from './measure-load.ts'
import type { Bodies } from './measure-load.ts'
import { startProgram } from './program.ts'
import type { Servers } from './servers.ts'

/** Microseconds of CPU that each stage alone takes for an event. */
export interface Floors {
  /** Bare Hono reads and verifies. */
  http: number
  /** XADD of the same bytes, 64 a round trip. */
  enqueue: number
  /** A job of 64 events through a worker that does nothing. */
  dequeue: number
  /** `store_groups` of 64 events into Ringback's own tables. */
  store: number
}

/** Measures each stage once, in a process of its own. */
export async function measureFloors(
  resources: AsyncDisposableStack,
  servers: Servers,
  load: { bodies: Bodies; seconds: number; connections: number },
): Promise<Floors> {
  const shape = { connections: load.connections, callbacks: 1, processes: 1, withoutWorkers: false }
  const { cpuUs } = await measureLoad(resources, servers, bareHono, { ...load, shape })
  await servers.emptyRedis()
  await servers.setAppendfsync('always')
  const databaseUrl = await servers.emptyDatabase('bench_floors')
  await ringback.prepare(databaseUrl)

  async function stage(name: string, serverPid: number): Promise<number> {
    const program = startProgram(resources, {
      command: process.execPath,
      args: [join(import.meta.dirname, 'floor-stage.ts'), name, String(serverPid)],
      environment: {
        PATH: process.env.PATH,
        REDIS_URL: servers.redisUrl,
        DATABASE_URL: databaseUrl,
        ...credentialVariables,
      },
      logFile: join(servers.dir, `floor-${name}.log`),
    })
    const output = await program.ended
    const { client, server } = JSON.parse(output.trim().split('\n').at(-1)!) as { client: number; server: number }
    return client + server
  }
  return {
    http: cpuUs.ingest,
    enqueue: await stage('xadd', servers.redis.pid),
    dequeue: await stage('dequeue', servers.redis.pid),
    store: await stage('store', servers.postgresPid),
  }
}
