import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, readlink, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { migrateQueue } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import { freePort } from '../support/free-port.ts'
import { ensureProgram, REDIS_SETTINGS } from '../support/programs.ts'
import type { Program } from './supervise.ts'

// Redis and Postgres with the settings that Ringback asks for: what they have acknowledged is on the disk.

const run = promisify(execFile)

/** A database cluster that is made once, and copied for each cell. */
export interface PreparedCluster extends AsyncDisposable {
  /** Copies it into an empty folder. Resolves to the program that runs its server there. */
  copyTo: (dir: string, port: number) => Promise<Program>
}

/** Makes a cluster whose database `ringback` is migrated, the queue included. Linux only: it finds the program by /proc. */
export async function prepareCluster(): Promise<PreparedCluster> {
  const dir = await mkdtemp(join(tmpdir(), 'ringback-faults-cluster-'))
  const server = await startPostgres({ dataDir: dir, port: await freePort(), settings: ['max_wal_size=64MB'] })
  const sql = connect(server.url, { max: 1, applicationName: 'ringback faults' })
  await migrate(sql)
  await sql.end()
  await migrateQueue({ kind: 'postgres', url: server.url })
  const cluster = join(dir, 'postgres')
  const pid = (await readFile(join(cluster, 'postmaster.pid'), 'utf8')).split('\n')[0]!
  const command = await readlink(`/proc/${pid}/exe`)
  const { uid, gid } = await stat(cluster)
  await server.stop()
  return {
    async copyTo(target, port) {
      const dataDir = join(target, 'postgres')
      await run('cp', ['-a', cluster, dataDir])
      const settings = [
        `port=${port}`,
        'listen_addresses=127.0.0.1',
        'unix_socket_directories=',
        'fsync=on',
        'synchronous_commit=on',
        'shared_buffers=128MB',
        'max_wal_size=128MB',
        'max_connections=200',
      ]
      return {
        name: 'postgres',
        command,
        args: ['-D', dataDir, ...settings.flatMap((setting) => ['-c', setting])],
        uid,
        gid,
        // A "fast" shutdown, which ends sessions instead of waiting for them.
        stopSignal: 'SIGINT',
        logFile: join(target, 'postgres.log'),
      }
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  }
}

/** A Redis that loses nothing that it has acknowledged, with its files in a folder of its own. */
export async function redisProgram(dir: string, port: number): Promise<Program> {
  const dataDir = join(dir, 'redis')
  await mkdir(dataDir)
  return {
    name: 'redis',
    command: ensureProgram('redis-server', { package: 'redis-server' }),
    args: ['--port', String(port), '--bind', '127.0.0.1', '--dir', dataDir, ...REDIS_SETTINGS],
    logFile: join(dir, 'redis.log'),
  }
}
