import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { ensureProgram, REDIS_SETTINGS } from './programs.ts'
import { eventually } from './ringback.ts'
import { freePort } from './free-port.ts'

// Redis servers of a test's own, to be killed, emptied, filled, demoted. Each ends with its scope.

export interface OwnRedis extends AsyncDisposable {
  port: number
  url: string
  /** A client for reading and setting things; it reconnects by itself. */
  client: Redis
  kill: (signal: NodeJS.Signals) => void
  isRunning: () => boolean
  /** Stops it; what it has on disk stays. */
  stop: () => Promise<void>
  /** Kills it with SIGKILL and starts it on the same port: with what is on its disk, or empty. */
  restart: (options?: { empty: boolean }) => Promise<void>
}

const NODE_TIMEOUT_MS = 2000

/** Settings of a Redis that knows no passwords, and repeats those that it is given. */
export const WITHOUT_AUTH = ['AUTH', 'HELLO'].flatMap((command) => ['--rename-command', command, ''])

/** Starts a Redis with the settings that Ringback asks for, and `more`. */
export async function startRedis(more: string[] = []): Promise<OwnRedis> {
  const program = ensureProgram('redis-server', { package: 'redis-server' })
  const port = await freePort()
  const dir = await mkdtemp(join(tmpdir(), 'ringback-redis-'))
  const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => 100 })
  client.on('error', () => {}) // while it is down, which is what a test may want
  let child: ChildProcess

  async function start(): Promise<void> {
    child = spawn(program, ['--port', String(port), '--dir', dir, ...REDIS_SETTINGS, ...more], { stdio: 'ignore' })
    await eventually(() => client.ping())
  }
  const isRunning = () => child.exitCode === null && child.signalCode === null
  async function stop(): Promise<void> {
    if (!isRunning()) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await start()
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    client,
    kill: (signal) => void child.kill(signal),
    isRunning,
    stop,
    async restart({ empty } = { empty: false }) {
      await stop()
      if (empty) await rm(join(dir, 'appendonlydir'), { recursive: true, force: true })
      await start()
    },
    async [Symbol.asyncDispose]() {
      client.disconnect()
      await stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

export interface OwnCluster extends AsyncDisposable {
  url: string
  nodes: OwnRedis[]
  /** Resolves to the servers that are masters at this moment. */
  masters: () => Promise<OwnRedis[]>
}

/** Starts a cluster of three masters with a replica each. */
export async function startCluster(): Promise<OwnCluster> {
  await using stack = new AsyncDisposableStack()
  const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', String(NODE_TIMEOUT_MS)]
  const nodes: OwnRedis[] = []
  for (let count = 0; count < 6; count++) {
    nodes.push(stack.use(await startRedis([...settings, '--cluster-port', String(await freePort())])))
  }
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
  const program = ensureProgram('redis-cli', { package: 'redis-tools' })
  const create = ['--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes']
  await promisify(execFile)(program, create)
  await eventually(async () => {
    for (const { client } of nodes) {
      if (!(await client.cluster('INFO')).includes('cluster_state:ok')) throw new Error('the cluster is not up')
      if (!isInSync(await client.info('replication'))) throw new Error('a replica is not in sync')
    }
  })
  const ended = stack.move()
  return {
    url: `redis+cluster://${addresses.slice(0, 3).join(',')}`,
    nodes,
    async masters() {
      const running = nodes.filter((node) => node.isRunning())
      const roles = await Promise.all(running.map(({ client }) => client.info('replication')))
      return running.filter((_, index) => roles[index]!.includes('role:master'))
    },
    [Symbol.asyncDispose]: () => ended.disposeAsync(),
  }
}

const isInSync = (replication: string) =>
  replication.includes('role:master') ? /state=online/.test(replication) : /master_link_status:up/.test(replication)

export interface OwnSentinels extends AsyncDisposable {
  url: string
  master: OwnRedis
  replicas: OwnRedis[]
}

/** Starts a master, two replicas, and three sentinels, two of which must agree on a failover. */
export async function startSentinels(): Promise<OwnSentinels> {
  await using stack = new AsyncDisposableStack()
  const master = stack.use(await startRedis())
  const replicas: OwnRedis[] = []
  for (let count = 0; count < 2; count++) {
    replicas.push(stack.use(await startRedis(['--replicaof', '127.0.0.1', String(master.port)])))
  }
  await eventually(async () => {
    const replication = await master.client.info('replication')
    if (replication.match(/state=online/g)?.length !== 2) throw new Error('a replica is not in sync')
  })
  const ports: number[] = []
  for (let count = 0; count < 3; count++) ports.push(await startSentinel(stack, master.port))
  await eventually(async () => {
    for (const port of ports) {
      const sentinel = new Redis({ port, host: '127.0.0.1', enableReadyCheck: false })
      const answer = await sentinel.call('SENTINEL', 'CKQUORUM', 'mymaster').finally(() => sentinel.disconnect())
      if (!String(answer).includes('3 usable')) throw new Error('the sentinels do not know each other yet')
    }
  })
  const ended = stack.move()
  return {
    url: `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/mymaster`,
    master,
    replicas,
    [Symbol.asyncDispose]: () => ended.disposeAsync(),
  }
}

async function startSentinel(stack: AsyncDisposableStack, masterPort: number): Promise<number> {
  const port = await freePort()
  const dir = await mkdtemp(join(tmpdir(), 'ringback-sentinel-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'sentinel.conf')
  await writeFile(
    file,
    `port ${port}
dir ${dir}
sentinel monitor mymaster 127.0.0.1 ${masterPort} 2
sentinel down-after-milliseconds mymaster ${NODE_TIMEOUT_MS}
sentinel failover-timeout mymaster 10000
`,
  )
  const child = spawn(ensureProgram('redis-server', { package: 'redis-server' }), [file, '--sentinel'], {
    stdio: 'ignore',
  })
  stack.defer(async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return port
}
