import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startNginx } from './support/nginx.ts'
import { runApp, temporaryFolder } from './support/processes.ts'
import type { RunningProcess } from './support/processes.ts'
import { aCallback, eventually, freshDatabase, environmentFor } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { freePort } from './support/free-port.ts'

const CONNECTIONS = 24
/** Between two requests of one connection: a steady load that leaves two cores room for all that runs here. */
const PAUSE_MS = 20

/** Sends callbacks on `CONNECTIONS` connections that are kept, until it is stopped; no request is sent twice. */
function startLoad(port: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const tally = { sent: 0, accepted: 0, failures: [] as string[] }
  let isOver = false
  const sendOne = (id: number) =>
    new Promise<string>((resolve) => {
      const headers = { 'content-type': 'application/json' }
      request(
        { agent, port, host: '127.0.0.1', method: 'POST', path: '/callbacks/voximplant', headers },
        (response) => {
          response.resume().on('end', () => resolve(String(response.statusCode)))
        },
      )
        .on('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)))
        .end(JSON.stringify({ callbacks: [aCallback(id, { type: 'min_balance' })] }))
    })
  const senders = Array.from({ length: CONNECTIONS }, async () => {
    while (!isOver) {
      tally.sent += 1
      const result = await sendOne(tally.sent)
      if (result === '200') tally.accepted += 1
      else tally.failures.push(result)
      await sleep(PAUSE_MS)
    }
  })
  return {
    tally,
    more: async (count: number) => {
      const target = tally.sent + count
      await eventually(async () => expect(tally.sent).toBeGreaterThan(target))
    },
    async stop() {
      isOver = true
      await Promise.all(senders)
      agent.destroy()
    },
    async [Symbol.asyncDispose]() {
      await this.stop()
    },
  }
}

/** Something that can be started again under the same address, and how to see that it is ready. */
interface Part {
  start: () => RunningProcess
  isReady: RegExp
}

/** Two ingests behind nginx and two workers. */
async function startAll(environment: Record<string, string>) {
  const ports: [number, number] = [await freePort(), await freePort()]
  const parts: Part[] = [
    ...ports.map((port) => ({
      start: () => runApp('ingest', { ...environment, PORT: String(port), SHUTDOWN_DELAY_MS: '1000' }),
      isReady: /ingest\.listening/,
    })),
    ...[1, 2].map(() => ({ start: () => runApp('worker', environment), isReady: /worker\.started/ })),
  ]
  const running = parts.map(({ start }) => start())
  await Promise.all(running.map((process, index) => process.prints(parts[index]!.isReady)))
  const nginx = await startNginx(ports)
  return {
    nginx,
    parts,
    running,
    async startAgain(index: number) {
      const { start, isReady } = parts[index]!
      running[index] = start()
      await running[index].prints(isReady)
    },
    async [Symbol.asyncDispose]() {
      await nginx[Symbol.asyncDispose]()
      await Promise.all(running.map((process) => process[Symbol.asyncDispose]()))
    },
  }
}

/** Everything is stored, and its handler has run. */
function storedAndHandled(database: Database, count: number): Promise<void> {
  return eventually(async () => {
    const [row] = await database.sql`
      select
        (select count(*)::integer from events) as events,
        (select count(*)::integer from deliveries where status = 'succeeded') as succeeded`
    expect(row).toEqual({ events: count, succeeded: count })
  }, 60_000)
}

test('two ingests behind nginx and two workers restart one after the other, twice, and nobody notices', async () => {
  await using database = await freshDatabase()
  await using spools = await temporaryFolder()
  await using all = await startAll({ ...(await environmentFor(database)), SPOOL_DIR: spools.path })
  await using load = startLoad(all.nginx.port)
  for (const index of [0, 1, 2, 3, 0, 1, 2, 3]) {
    await load.more(200)
    const process = all.running[index]!
    process.child.kill('SIGTERM')
    expect(await process.ended, process.output().slice(-2000)).toBe(0)
    await all.startAgain(index)
  }
  await load.more(200)
  await load.stop()

  expect(load.tally.failures).toEqual([])
  await storedAndHandled(database, load.tally.sent)
  // Nothing came twice, so nginx has repeated no request that an ingest had taken; and no handler ran twice.
  expect(await database.sql`select from events where duplicates > 0`).toHaveLength(0)
  expect(await database.sql`select from attempts`).toHaveLength(load.tally.sent)
  // nginx asked the other ingest where one refused the connection, and not where one broke it; but for the few that come
  // in the microseconds between the last look and the end of the listener, which are more when the machine is busy.
  const detours = await all.nginx.detours()
  expect(detours.length).toBeGreaterThan(10)
  expect(detours.filter(({ connected }) => connected[0]).length).toBeLessThan(5)
}, 180_000)

test('an ingest that is killed behind nginx costs no request, and stores none twice', async () => {
  await using database = await freshDatabase()
  await using spools = await temporaryFolder()
  await using all = await startAll({ ...(await environmentFor(database)), SPOOL_DIR: spools.path })
  await using load = startLoad(all.nginx.port)
  for (const index of [0, 1]) {
    await load.more(200)
    const process = all.running[index]!
    process.child.kill('SIGKILL')
    await process.ended
    await load.more(200)
    await all.startAgain(index)
  }
  await load.stop()

  expect(load.tally.failures).toEqual([])
  await storedAndHandled(database, load.tally.sent)
}, 120_000)
