import { readFileSync, readdirSync } from 'node:fs'
import { once } from 'node:events'
import { chown, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { migrateQueue } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import type { EmbeddedPostgres } from '@ringback/standalone/embedded-postgres'
import { dataFolder } from './data-folder.ts'
import { freePort } from './free-port.ts'
import { signalTree } from './process-tree.ts'
import { connectAsAdmin, queueFor } from './ringback.ts'
import type { Database } from './ringback.ts'

/** A Postgres of a test's own, with which it may do anything. */
export interface PostgresServer extends AsyncDisposable {
  url: string
  port: number
  dataDir: string
  /** Stops it as an operator does. */
  stop: () => Promise<void>
  start: () => Promise<void>
  /** Stops all its processes where they are, by SIGSTOP. */
  freeze: () => void
  thaw: () => void
  /** Ends all its processes at once. */
  kill: () => Promise<void>
}

/** Starts a Postgres of a test's own; unless it `isSafe`, without fsync. It ends with its scope. */
export async function ownPostgres(
  settings: string[] = [],
  { dataDir, isSafe = false }: { dataDir?: string; isSafe?: boolean } = {},
): Promise<PostgresServer> {
  const folder = dataDir ?? (await mkdtemp(join(await dataFolder(), 'ringback-own-postgres-')))
  const ownPort = await freePort()
  const options = {
    dataDir: folder,
    port: ownPort,
    settings: ['shared_buffers=16MB', ...(isSafe ? [] : ['fsync=off']), ...settings],
  }
  let running: EmbeddedPostgres | undefined = await startPostgres(options)
  const { url } = running
  const pid = () => Number(readFileSync(join(folder, 'postgres/postmaster.pid'), 'utf8').split('\n')[0])

  async function kill(): Promise<void> {
    signalTree(pid(), 'SIGKILL')
    running = undefined
    // A child that ends later may still hold the port.
    for (let open = true; open;) open = await accepts(ownPort)
  }
  return {
    url,
    port: ownPort,
    dataDir: folder,
    async stop() {
      await running?.stop()
      running = undefined
    },
    async start() {
      running = await startPostgres(options)
    },
    freeze: () => signalTree(pid(), 'SIGSTOP'),
    thaw: () => signalTree(pid(), 'SIGCONT'),
    kill,
    async [Symbol.asyncDispose]() {
      if (running !== undefined) await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connectSocket(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

let databases = 0

/** Makes a migrated database on such a server, with the queue's schema where the project has its queue in Postgres. */
export async function databaseOn(server: { url: string }, tablespace?: string): Promise<Database> {
  databases += 1
  const name = `test_${process.pid}_${databases}`
  const admin = connectAsAdmin(server.url)
  await (tablespace === undefined
    ? admin`create database ${admin(name)}`
    : admin`create database ${admin(name)} tablespace ${admin(tablespace)}`)
  await admin.end()
  const url = new URL(`/${name}`, server.url).href
  const sql = connect(url, { max: 5, applicationName: 'ringback tests' })
  await migrate(sql)
  const queue = queueFor(url, `${name}-${Date.now()}`)
  await migrateQueue(queue)
  return { url, sql, queue, [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) }
}

/** Makes a copy of a running server, which follows it and can take its place. Its name in replication is `standby`. */
export async function standbyOf(primary: PostgresServer): Promise<PostgresServer> {
  const folder = await mkdtemp(join(await dataFolder(), 'ringback-own-postgres-'))
  const owner = await stat(primary.dataDir)
  await chown(folder, owner.uid, owner.gid)
  const cluster = join(folder, 'postgres')
  const admin = connectAsAdmin(primary.url)
  await admin`select pg_backup_start('standby', true)`
  await cp(join(primary.dataDir, 'postgres'), cluster, {
    recursive: true,
    filter: (path) => !/postmaster\.(pid|opts)$/.test(path),
  })
  const [label] = await admin<[{ labelfile: string }]>`select labelfile from pg_backup_stop(false)`
  await admin.end()
  await writeFile(join(cluster, 'backup_label'), label.labelfile)
  await writeFile(join(cluster, 'standby.signal'), '')
  await ownAll(cluster, owner)
  const from = `host=127.0.0.1 port=${primary.port} user=ringback password=ringback application_name=standby`
  const settings = [`primary_conninfo=${from}`, 'hot_standby=on']
  return ownPostgres(settings, { dataDir: folder })
}

async function ownAll(folder: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
    await chown(join(folder, entry), uid, gid)
  await chown(folder, uid, gid)
}
