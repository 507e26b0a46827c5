import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises'
import { connect as connectTo, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, inject, test } from 'vitest'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { demoCredentials } from '@ringback/core/providers/voximplant'
import { freePort } from './support/free-port.ts'
import { ownPostgres } from './support/postgres-server.ts'
import { configFileWith, end, ingestPort, npmStart, runApp, temporaryFolder } from './support/processes.ts'
import type { RunningProcess } from './support/processes.ts'
import {
  aCallback,
  environmentFor,
  eventually,
  freshDatabase,
  ownRedis,
  post,
  postCallbacks,
} from './support/ringback.ts'

// `npm start` without its first half, which brings Node.js and the dependencies; .ci/run does that half for real.

/** Every variable that chooses a port or a place, so that tests disturb nobody and each other. */
async function environmentIn(folder: string): Promise<Record<string, string>> {
  return {
    PORT: '0',
    EMBEDDED_POSTGRES_PORT: String(await freePort()),
    RINGBACK_DATA_DIR: folder,
    VOXIMPLANT_ACCOUNT_ID: '',
    VOXIMPLANT_API_KEY: '',
    VOXIMPLANT_SALT: '',
  }
}

/** Connects to the database that a standalone prints at the end of its start. */
async function databaseOf({ prints }: RunningProcess): Promise<Sql> {
  const [, url] = await prints(/psql (\S+)/)
  return connect(url!, { max: 1, applicationName: 'ringback tests' })
}

async function untilOneIsStored(ringback: RunningProcess): Promise<void> {
  const sql = await databaseOf(ringback)
  await eventually(async () => expect(await sql`select from events`).toHaveLength(1))
  await sql.end()
}

test('with nothing installed and nothing set: the printed callback is stored, survives a restart, and is then a duplicate', async () => {
  await using folder = await temporaryFolder()
  await chmod(folder.path, 0o755) // for the server's account, where root runs this
  const data = join(folder.path, 'data')
  const environment = await environmentIn(data)
  let callback: Record<string, unknown>
  {
    await using ringback = runApp('standalone', environment)
    const [, url, body] = await ringback.prints(/curl (\S+) -H 'Content-Type: application\/json' -d '([^']+)'/)
    expect(ringback.output()).toContain('demo credentials, which are public')
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:/)
    // Any address of this machine but the one: whoever knows the credentials comes from another.
    await expect(fetch(url!.replace('127.0.0.1', '127.0.0.2'), { method: 'POST', body: body! })).rejects.toThrow(
      'fetch failed',
    )
    callback = (JSON.parse(body!) as { callbacks: Record<string, unknown>[] }).callbacks[0]!
    expect((await fetch(url!, { method: 'POST', body: body! })).status).toBe(200)
    await untilOneIsStored(ringback)
    await end(ringback)
    const { EMBEDDED_POSTGRES_PORT: port } = environment
    await expect(once(connectTo(Number(port), '127.0.0.1'), 'connect'), 'Postgres has ended too').rejects.toThrow(port)
    expect((await stat(data)).mode & 0o777, 'nobody else may enter').toBe(0o700)
    expect((await stat(join(data, 'postgres.log'))).mode & 0o777).toBe(0o600)
  }
  await using again = runApp('standalone', environment)
  const port = await ingestPort(again)
  expect((await postCallbacks({ port }, callback)).status).toBe(200)
  const sql = await databaseOf(again)
  await eventually(async () => expect(await sql`select duplicates from events`).toEqual([{ duplicates: 1 }]))
  await eventually(async () => expect(await sql`select status from deliveries`).toEqual([{ status: 'succeeded' }]))
  await sql.end()

  for (const EMBEDDED_POSTGRES_PORT of [environment.EMBEDDED_POSTGRES_PORT!, String(await freePort())]) {
    const second = runApp('standalone', { ...environment, EMBEDDED_POSTGRES_PORT })
    expect(await second.ended).toBe(1)
    expect(second.output()).toMatch(/Another Ringback uses/)
  }
  expect((await postCallbacks({ port }, callback)).status).toBe(200)
  again.child.kill('SIGINT')
  expect(await again.ended).toBe(0)
})

test('an ingest by itself, too, listens to this machine only while its credentials are the public ones', async () => {
  await using database = await freshDatabase()
  await using ingest = runApp('ingest', { ...(await environmentFor(database)), PORT: '0' })
  const port = await ingestPort(ingest)
  expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200)
  await expect(fetch(`http://127.0.0.2:${port}/livez`)).rejects.toThrow('fetch failed')
})

test('whoever logs in to the embedded Postgres, whose password is public, finds no secret of the environment there', async () => {
  await using folder = await temporaryFolder()
  await chmod(folder.path, 0o755)
  const environment = await environmentIn(join(folder.path, 'data'))
  await using ringback = runApp('standalone', { ...environment, CRM_TOKEN: 'hush-hush' })
  const [, databaseUrl] = await ringback.prints(/psql (\S+)/)
  const sql = connect(databaseUrl!, { max: 1, applicationName: 'ringback tests' })
  await sql`create temporary table variables (text text)`
  await sql`copy variables from program 'env'`
  const variables = await sql<{ text: string }[]>`select text from variables`
  await sql.end()
  expect(variables.map(({ text }) => text)).toContainEqual(expect.stringMatching(/^PATH=/))
  expect(JSON.stringify(variables)).not.toContain('hush-hush')
})

/** Ends the Postgres of a data folder as if it had ended by itself: at once. */
async function endPostgres(dataDir: string): Promise<void> {
  const [pid] = (await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n')
  process.kill(Number(pid), 'SIGQUIT')
}

test('a Postgres that has ended by itself is started again, and what came meanwhile is stored', async () => {
  await using folder = await temporaryFolder()
  await chmod(folder.path, 0o755)
  const data = join(folder.path, 'data')
  await using ringback = runApp('standalone', await environmentIn(data))
  const port = await ingestPort(ringback)
  await ringback.prints(/psql/)
  await endPostgres(data)
  expect((await postCallbacks({ port }, aCallback(1))).status).toBe(200)
  await untilOneIsStored(ringback)
  await end(ringback)
})

// Only Linux can set the limit of a process that runs.
test.runIf(process.platform === 'linux')(
  'where there is no room for a process, a Postgres that has ended takes nothing else with it',
  async () => {
    await using folder = await temporaryFolder()
    await chmod(folder.path, 0o755)
    const data = join(folder.path, 'data')
    await using ringback = runApp('standalone', await environmentIn(data))
    const port = await ingestPort(ringback)
    await ringback.prints(/psql/)
    const prlimit = (...options: string[]) =>
      execFileSync('prlimit', ['--pid', String(ringback.child.pid), ...options], { encoding: 'utf8' })
    const most = prlimit('--nproc', '--output=SOFT', '--noheadings', '--raw').trim()
    prlimit('--nproc=0:')
    await endPostgres(data)
    // Time for some tries to start it again, of which nothing is to be seen from outside.
    await Promise.race([sleep(4000), ringback.ended])
    expect((await postCallbacks({ port }, aCallback(1))).status).toBe(200)
    prlimit(`--nproc=${most}:`)
    await untilOneIsStored(ringback)
    await end(ringback)
  },
)

test('a Postgres that is killed before it answers is not waited for', async () => {
  // A standby of this kind never answers.
  await using server = await ownPostgres(['hot_standby=off'])
  await server.stop()
  await writeFile(join(server.dataDir, 'postgres/standby.signal'), '')
  const begunAt = performance.now()
  const starting = expect(server.start()).rejects.toThrow('did not start')
  const pidFile = join(server.dataDir, 'postgres/postmaster.pid')
  await eventually(async () => expect(await readFile(pidFile, 'utf8')).toMatch(/^\d+\n/))
  await server.kill()
  await starting
  expect(performance.now() - begunAt).toBeLessThan(45_000)
})

// Only Linux tells what folder a process works in.
test.runIf(process.platform === 'linux')(
  'a Postgres that was cut off starts again, although another program has its process id now',
  async () => {
    await using server = await ownPostgres()
    await server.kill()
    const pidFile = join(server.dataDir, 'postgres/postmaster.pid')
    const { uid, gid } = await stat(pidFile)
    const other = spawn('sleep', ['60'], { uid, gid, cwd: '/' })
    await using _ending = { [Symbol.asyncDispose]: async () => void other.kill() }
    const left = await readFile(pidFile, 'utf8')
    await writeFile(pidFile, left.replace(/^\d+/, String(other.pid)))
    await server.start()
    expect(other.exitCode).toBeNull()
  },
)

test('a folder stays in use, although its Postgres has ended all sessions because one of them crashed', async () => {
  await using folder = await temporaryFolder()
  await chmod(folder.path, 0o755)
  const environment = await environmentIn(join(folder.path, 'data'))
  await using ringback = runApp('standalone', environment)
  await ingestPort(ringback)
  const sql = await databaseOf(ringback)
  const holder = () => sql<{ pid: number }[]>`
    select pid from pg_locks join pg_stat_activity using (pid)
    where locktype = 'advisory' and granted and application_name = 'ringback standalone'`
  const [before] = await holder()
  process.kill(before!.pid, 'SIGKILL')
  await eventually(async () => expect(await holder()).not.toEqual([before]))
  await eventually(async () => expect(await holder()).toHaveLength(1))
  await sql.end()
  const second = runApp('standalone', environment)
  expect(await second.ended).toBe(1)
  expect(second.output()).toMatch(/Another Ringback uses/)
  await end(ringback)
})

test('npm start that is stopped finishes what is in hand, and then stops its Postgres, whomever the signal reaches', async () => {
  await using folder = await temporaryFolder()
  const environment = await environmentIn(folder.path)
  await using config = await configFileWith(`[{
    name: 'slow',
    run: code(async (event) => {
      console.log('begun', event.callbackId)
      await sleep(3000)
    }),
  }]`)
  const stops = [
    (pid: number) => process.kill(pid, 'SIGTERM'),
    (pid: number) => process.kill(-pid, 'SIGTERM'),
    (pid: number) => process.kill(-pid, 'SIGHUP'),
  ]
  for (const [id, stop] of stops.entries()) {
    await using npm = npmStart({ ...environment, RINGBACK_CONFIG: config.path })
    const port = await ingestPort(npm)
    await npm.prints(/psql/)
    expect((await postCallbacks({ port }, aCallback(id))).status).toBe(200)
    await npm.prints(new RegExp(`begun ${id}`))
    stop(npm.child.pid!)
    await npm.ended
    expect(npm.output()).toMatch(/"outcome":"succeeded".*"attempt.finished"/)
    const { EMBEDDED_POSTGRES_PORT } = environment
    await expect(once(connectTo(Number(EMBEDDED_POSTGRES_PORT), '127.0.0.1'), 'connect')).rejects.toThrow(
      EMBEDDED_POSTGRES_PORT,
    )
  }
}, 120_000)

test.each([
  ['the same port', {}],
  ['another port', { EMBEDDED_POSTGRES_PORT: String(await freePort()) }],
])('what killed Ringbacks left, half made or running, is in nobody’s way, on %s', async (_which, others) => {
  await using folder = await temporaryFolder()
  const environment = await environmentIn(folder.path)
  await mkdir(join(folder.path, 'postgres.part'))
  await writeFile(join(folder.path, 'postgres.part', 'PG_VERSION'), '18')
  const killed = runApp('standalone', environment)
  await killed.prints(/psql/)
  killed.child.kill('SIGKILL')
  await killed.ended
  await using next = runApp('standalone', { ...environment, ...others })
  await next.prints(/psql/)
  await end(next)
})

test.each(['PORT', 'OPS_PORT', 'EMBEDDED_POSTGRES_PORT'])(
  '%s that is taken is an error that names the variable, and leaves nothing running',
  async (variable) => {
    await using folder = await temporaryFolder()
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    const environment = await environmentIn(folder.path)
    await using ringback = runApp('standalone', { ...environment, [variable]: String(port) })
    expect(await ringback.ended).toBe(1)
    expect(ringback.output()).toMatch(new RegExp(`Port ${port} is taken; set ${variable} to another`))
    taken.close()
    await using next = runApp('standalone', environment)
    await next.prints(/psql/)
    await end(next)
  },
)

test.each(['HOST', 'OPS_HOST'])(
  '%s that is no address of this machine is an error that names the variable',
  async (variable) => {
    await using database = await freshDatabase()
    await using folder = await temporaryFolder()
    await using ringback = runApp('standalone', {
      ...(await environmentIn(folder.path)),
      DATABASE_URL: database.url,
      VOXIMPLANT_ACCOUNT_ID: '7',
      VOXIMPLANT_API_KEY: 'own',
      VOXIMPLANT_SALT: 'own',
      // Documentation's own: nobody has it.
      [variable]: '192.0.2.1',
    })
    expect(await ringback.ended).toBe(1)
    expect(ringback.output()).toMatch(new RegExp(`^${variable} names no address of this machine`, 'm'))
  },
)

test('a database that cannot be used is an error that says where it is, and what DATABASE_URL has to do with it', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  const there = new URL(database.url)
  for (const [databaseUrl, message] of [
    ['postgres://a:hush@127.0.0.1:1/x', 'Postgres does not answer at 127.0.0.1:1: is it running, and is DATABASE_URL'],
    [new URL('/nodb', there).href, `Postgres at ${there.host} refuses: database "nodb" does not exist; DATABASE_URL`],
  ] as const) {
    await using ringback = runApp('standalone', { ...(await environmentIn(folder.path)), DATABASE_URL: databaseUrl })
    expect(await ringback.ended).toBe(1)
    expect(ringback.output()).toContain(message)
    expect(ringback.output()).not.toContain('hush')
  }
})

test('a data folder that cannot be used is an error that names RINGBACK_DATA_DIR', async () => {
  await using folder = await temporaryFolder()
  // For the user that Postgres runs as.
  await chmod(folder.path, 0o755)
  const file = join(folder.path, 'file')
  await writeFile(file, '')
  // What cannot be written, also to root: the lock is a folder.
  const notWritable = join(folder.path, 'folder')
  await mkdir(join(notWritable, 'lock'), { recursive: true })
  for (const dir of [file, join(file, 'below'), notWritable]) {
    await using ringback = runApp('standalone', { ...(await environmentIn(folder.path)), RINGBACK_DATA_DIR: dir })
    expect(await ringback.ended).toBe(1)
    expect(ringback.output()).toMatch(/is no folder that can be written: set RINGBACK_DATA_DIR to one\n {2}because: /)
  }
})

// Only root runs Postgres as another user, who cannot enter such a folder.
test.runIf(process.getuid?.() === 0)(
  'in a folder that only root may enter, .ringback leads to the data: the CLI finds them, and they go along when the folder is moved',
  async () => {
    await using folder = await temporaryFolder()
    const { RINGBACK_DATA_DIR: _, ...variables } = await environmentIn(folder.path)
    const environment = {
      ...variables,
      RINGBACK_CONFIG: fileURLToPath(new URL('../ringback.config.ts', import.meta.url)),
    }
    const [before, after] = [join(folder.path, 'before'), join(folder.path, 'after')]
    await mkdir(before)
    await using stack = new AsyncDisposableStack()
    {
      await using ringback = runApp('standalone', environment, [], before)
      const port = await ingestPort(ringback)
      const data = await readlink(join(before, '.ringback'))
      stack.defer(() => rm(data, { recursive: true }))
      expect((await postCallbacks({ port }, aCallback(1))).status).toBe(200)
      await using cli = runApp('cli', environment, ['spool', 'list'], before)
      expect(await cli.ended, cli.output()).toBe(0)
      await end(ringback)
    }
    await rename(before, after)
    await using moved = runApp('standalone', environment, [], after)
    await untilOneIsStored(moved)
    await end(moved)
  },
)

test('of two that are started at once in a new folder one runs, and the other says why it does not', async () => {
  await using folder = await temporaryFolder()
  const environment = await environmentIn(folder.path)
  await using first = runApp('standalone', environment)
  await using second = runApp('standalone', environment)
  const running = await Promise.any(
    [first, second].map(async (ringback) => {
      await ringback.prints(/psql/)
      return ringback
    }),
  )
  const refused = running === first ? second : first
  expect(await refused.ended).toBe(1)
  expect(refused.output()).toMatch(/^Another Ringback uses/m)
  await end(running)
})

test('with servers of its own, it uses those, and heeds the variables that it shares with ingest and worker', async () => {
  await using database = await freshDatabase()
  await database.sql`
    insert into quarantine_dropped (recorded_at, source, reason, count) values (now() - interval '8 days', 'old', 'r', 1)`
  await using folder = await temporaryFolder()
  const twice = database.url.replace(/@([^/]+)/, '@$1,$1')
  const servers: Record<string, string> =
    inject('queue') === 'redis' ? { REDIS_URL: await ownRedis(), DATABASE_URL: twice } : { DATABASE_URL: database.url }
  await using ringback = runApp('standalone', {
    ...(await environmentIn(folder.path)),
    ...servers,
    VOXIMPLANT_ACCOUNT_ID: '7',
    VOXIMPLANT_API_KEY: 'own',
    VOXIMPLANT_SALT: 'own',
    RETENTION_DAYS: '7',
    ROOT_SOURCE: 'voximplant',
  })
  const port = await ingestPort(ringback)
  await ringback.prints(/psql/)
  expect(ringback.output()).not.toContain('demo')
  expect((await postCallbacks({ port }, aCallback(1, { account_id: demoCredentials.accountId }))).status).toBe(401)
  await eventually(async () => expect(await database.sql`select from quarantine`).toHaveLength(1))
  expect((await post({ port }, '{}', '/')).status).toBe(400)
  await eventually(async () =>
    expect(await database.sql`select from quarantine_dropped where source = 'old'`).toHaveLength(0),
  )
})
