import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { demoCredentials } from '@ringback/core/providers/voximplant'
import { embeddedDatabaseUrl } from '@ringback/core/standalone'
import { freePort } from '../support/free-port.ts'
import { proxyTo } from '../support/tcp-proxy.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import { startReceiver } from './receiver.ts'
import type { Receiver } from './receiver.ts'
import { redisProgram } from './servers.ts'
import type { PreparedCluster } from './servers.ts'
import { mountSmallDisk } from './small-disk.ts'
import type { SmallDisk } from './small-disk.ts'
import { supervise } from './supervise.ts'
import type { Program, Supervised } from './supervise.ts'

/** Which server has the queue. */
export type QueueKind = 'redis' | 'postgres'

/** What a fault can be done to. */
export type ProcessName = 'ingest' | 'worker' | 'redis' | 'postgres'

/** Everything that one cell needs: the four processes, each in its own, and the endpoint of the handler. */
export interface Stand {
  queue: QueueKind
  processes: Record<ProcessName, Supervised>
  /** The connections between the processes, if they go through proxies. */
  links: Partial<Record<LinkName, TcpProxy>>
  /** The disk of Postgres's files, if they have one of their own. */
  disk: SmallDisk | undefined
  receiver: Receiver
  ingestPort: number
  opsPorts: { ingest: number; worker: number }
  /** URLs that lead straight to the servers, past any proxy. */
  databaseUrl: string
  redisUrl: string
}

/** A connection, from which process to which. */
export type LinkName = 'ingest-queue' | 'worker-queue' | 'worker-postgres'

export interface StandOptions {
  cluster: PreparedCluster
  queue: QueueKind
  /** Whether connections go through proxies, which can be cut. */
  isProxied?: boolean
  /** Whether Postgres's files get a disk that can be filled. */
  isOnSmallDisk?: boolean
}

const APPS = join(import.meta.dirname, '../../apps')
const READY_DEADLINE_MS = 60_000
const UP_DEADLINE_MS = 5000

/** Starts everything, and waits until ingest and worker are ready. It ends with `resources`. */
export async function startStand(resources: AsyncDisposableStack, options: StandOptions): Promise<Stand> {
  const dir = await mkdtemp(join(tmpdir(), 'ringback-faults-'))
  resources.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))
  await chmod(dir, 0o755) // root's Postgres runs as somebody else
  const disk = options.isOnSmallDisk ? resources.use(await mountSmallDisk(join(dir, 'disk'))) : undefined
  const ports = { redis: await freePort(), postgres: await freePort(), ingest: await freePort() }
  const opsPorts = { ingest: await freePort(), worker: await freePort() }
  const postgres = resources.use(supervise(await options.cluster.copyTo(disk?.path ?? dir, ports.postgres)))
  const redis = resources.use(supervise(await redisProgram(dir, ports.redis)))
  const receiver = resources.use(await startReceiver())

  const straight = { databaseUrl: embeddedDatabaseUrl(ports.postgres), redisUrl: `redis://127.0.0.1:${ports.redis}` }
  const queueUrl = options.queue === 'redis' ? straight.redisUrl : straight.databaseUrl
  const links: Stand['links'] = {}
  const by = async (name: LinkName, url: string) =>
    options.isProxied ? (links[name] = resources.use(await proxyTo(url))).url : url
  const environmentOf = async (name: 'ingest' | 'worker') => ({
    [options.queue === 'redis' ? 'REDIS_URL' : 'DATABASE_URL']: await by(`${name}-queue`, queueUrl),
    OPS_PORT: String(opsPorts[name]),
    RINGBACK_CONFIG: join(import.meta.dirname, 'faults.config.ts'),
    RECEIVER_URL: receiver.url,
    VOXIMPLANT_ACCOUNT_ID: demoCredentials.accountId,
    VOXIMPLANT_API_KEY: demoCredentials.apiKey,
    VOXIMPLANT_SALT: demoCredentials.salt,
  })
  const spoolDir = join(dir, 'spool')
  await mkdir(spoolDir)
  const ingest = resources.use(
    supervise(
      app('ingest', dir, { ...(await environmentOf('ingest')), PORT: String(ports.ingest), SPOOL_DIR: spoolDir }),
    ),
  )
  const worker = resources.use(
    supervise(
      app('worker', dir, {
        DATABASE_URL: await by('worker-postgres', straight.databaseUrl),
        ...(await environmentOf('worker')),
      }),
    ),
  )
  const stand: Stand = {
    queue: options.queue,
    processes: { ingest, worker, redis, postgres },
    links,
    disk,
    receiver,
    ingestPort: ports.ingest,
    opsPorts,
    ...straight,
  }
  await untilReady(ports.ingest, ingest)
  await untilReady(opsPorts.worker, worker)
  return stand
}

function app(name: 'ingest' | 'worker', dir: string, env: Record<string, string>): Program {
  return {
    name,
    command: process.execPath,
    args: [join(APPS, name, 'src/main.ts')],
    env,
    logFile: join(dir, `${name}.log`),
  }
}

async function untilReady(port: number, { name, logFile }: Supervised): Promise<void> {
  const deadline = performance.now() + READY_DEADLINE_MS
  while (!(await isReady(port))) {
    if (performance.now() > deadline) throw new Error(`${name} is not ready after a minute; ${logFile} tells why`)
    await sleep(50)
  }
}

/** Waits until ingest and worker run, whatever their servers do, but not longer than a start may take. */
export async function untilUp({ opsPorts }: Stand): Promise<void> {
  const deadline = performance.now() + UP_DEADLINE_MS
  for (const port of Object.values(opsPorts)) {
    while (!(await isReady(port, '/livez')) && performance.now() < deadline) await sleep(20)
  }
}

function isReady(port: number, path = '/readyz'): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2000) }).then(
    ({ ok }) => ok,
    () => false,
  )
}
