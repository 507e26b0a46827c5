import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import { env } from '@ringback/core/config'
import { createRegistry } from '@ringback/core/metrics'
import { voximplant } from '@ringback/core/providers/voximplant'
import { openSpool } from '@ringback/core/spool'
import { holdsGroups } from '@ringback/core/spools'
import { runCli, temporaryFolder } from './support/processes.ts'
import {
  aCallback,
  configWith,
  environmentFor,
  eventually,
  freshDatabase,
  keptLog,
  log,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

const MAX_BYTES = 100_000_000
/** A second, and what a busy machine adds to it. */
const DEADLINE_MS = 1500

/** Sends callbacks first..last at once, and expects 200 for each in time. */
async function sendAll(ingest: { port: number }, first: number, last: number): Promise<void> {
  const ids = Array.from({ length: last - first + 1 }, (_, index) => first + index)
  await Promise.all(
    ids.map(async (id) => {
      const startedAt = performance.now()
      expect((await postCallbacks(ingest, aCallback(id))).status).toBe(200)
      expect(performance.now() - startedAt).toBeLessThan(DEADLINE_MS)
    }),
  )
}

async function expectStoredOnce(database: Database, count: number): Promise<void> {
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(count))
  expect(await database.sql`select from events where duplicates > 0`).toHaveLength(0)
}

test.each([
  ['away', 'cut'],
  ['frozen', 'freeze'],
] as const)(
  'while the queue is %s every request is answered 200 in time, and stored once when it is back',
  async (_state, fault) => {
    await using database = await freshDatabase()
    await using way = await proxyTo(database.queue.url)
    await using dir = await temporaryFolder()
    const queue = { ...database.queue, url: way.url }
    await using ingest = await startIngest(database, { queue, spool: { dir: dir.path, maxBytes: MAX_BYTES } })
    await sendAll(ingest, 1, 20)

    await way[fault]()
    await sendAll(ingest, 21, 70)
    await sendAll(ingest, 71, 120)
    expect(await ingest.ready()).toBe(true)
    expect(await holdsGroups(join(dir.path, '0'))).toBe(true)

    await way.restore()
    await using _worker = await startWorker(database)
    await sendAll(ingest, 121, 140)
    await expectStoredOnce(database, 140)
    await eventually(async () => expect(await holdsGroups(join(dir.path, '0'))).toBe(false))
  },
)

test('an ingest that starts while the queue is down accepts at once', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  await way.cut()
  const queue = { ...database.queue, url: way.url }
  await using ingest = await startIngest(database, { queue, spool: { dir: dir.path, maxBytes: MAX_BYTES } })
  await sendAll(ingest, 1, 5)
  await way.restore()
  await using _worker = await startWorker(database)
  await expectStoredOnce(database, 5)
})

test('a group that takes longer to the queue than an answer may wait leaves the spool, and what is behind it too', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  const queue = { ...database.queue, url: way.url }
  await using ingest = await startIngest(database, { queue, spool: { dir: dir.path, maxBytes: MAX_BYTES } })
  await sendAll(ingest, 1, 1)
  way.slowDown(1_000_000)
  // Random, so that it is hardly smaller when it is packed: it takes more than half a second.
  const large = aCallback(2, { text: randomBytes(600_000).toString('base64') })
  expect((await postCallbacks(ingest, large)).status).toBe(200)
  await sendAll(ingest, 3, 5)
  await using _worker = await startWorker(database)
  await expectStoredOnce(database, 5)
  await eventually(async () => expect(await holdsGroups(join(dir.path, '0'))).toBe(false))
})

test('what an ingest leaves behind is adopted by another that shares the folder', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  const spool = { dir: dir.path, maxBytes: MAX_BYTES }
  await using _neighbour = await startIngest(database, { spool })
  {
    await using ingest = await startIngest(database, { queue: { ...database.queue, url: way.url }, spool })
    await way.cut()
    await sendAll(ingest, 1, 10)
    expect(await holdsGroups(join(dir.path, '1'))).toBe(true)
  }
  await using _worker = await startWorker(database)
  await expectStoredOnce(database, 10)
})

test('what an ingest counted that stopped while the queue was down is counted once the queue is back', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  const spool = { dir: dir.path, maxBytes: MAX_BYTES }
  {
    await using ingest = await startIngest(database, {
      queue: { ...database.queue, url: way.url },
      spool,
      maxBodyBytes: 1000,
    })
    await way.cut()
    await sendAll(ingest, 1, 4)
    expect((await postCallbacks(ingest, aCallback(5, { text: 'x'.repeat(1000) }))).status).toBe(413)
  }
  await using _ingest = await startIngest(database, { spool })
  await using _worker = await startWorker(database)
  await eventually(async () => {
    const [row] = await database.sql`
      select
        (select sum(accepted)::integer from source_minutes) as accepted,
        (select sum(too_large)::integer from source_minutes) as "tooLarge",
        (select sum(count)::integer from quarantine_dropped) as dropped`
    expect(row).toEqual({ accepted: 4, tooLarge: 1, dropped: 1 })
  })
})

test('where the folder cannot be written ingest starts, and refuses only while the queue is down', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  await writeFile(join(dir.path, 'file'), '')
  const queue = { ...database.queue, url: way.url }
  const spool = { dir: join(dir.path, 'file'), maxBytes: MAX_BYTES }
  await using ingest = await startIngest(database, { queue, spool })
  await sendAll(ingest, 1, 1)
  await way.cut()
  await eventually(async () => expect((await postCallbacks(ingest, aCallback(2))).status).toBe(503))
  expect(await ingest.ready()).toBe(false)
})

test('ingest tells when it starts of a spool that does not last, and of sources that are off or take what is forged', async () => {
  await using database = await freshDatabase()
  const dir = await mkdtemp('/dev/shm/ringback-spool-')
  onTestFinished(() => rm(dir, { recursive: true }))
  const accounts = [{ accountId: '1', apiKey: 'key', salts: ['salt'] }]
  const config = configWith({
    sources: {
      watched: voximplant({ accounts, shadow: true }),
      unsigned: voximplant({ urlTokens: 'token' }),
      unset: voximplant({ accounts: [{ accountId: env('NOT_SET'), apiKey: env('NOT_SET'), salts: [env('NOT_SET')] }] }),
    },
  })
  const { lines, log: telling } = keptLog('warn')
  await using _ingest = await startIngest(database, { config, log: telling, spool: { dir, maxBytes: MAX_BYTES } })
  expect(lines.toSorted((a, b) => (String(a.msg) < String(b.msg) ? -1 : 1))).toMatchObject([
    { msg: 'source.off', source: 'unset' },
    { msg: 'source.shadow', source: 'watched' },
    { msg: 'source.unsigned', source: 'unsigned' },
    { msg: 'spool.unsafe' },
  ])
})

test('a spool that is full refuses, and what it holds is kept', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  const queue = { ...database.queue, url: way.url }
  const registry = createRegistry()
  await using ingest = await startIngest(database, { queue, spool: { dir: dir.path, maxBytes: 4000 }, registry })
  const metric = async (name: string) =>
    Number(new RegExp(`^ringback_spool_${name} (.+)$`, 'm').exec(await registry.metrics())?.[1])
  expect([await metric('groups'), await metric('bytes'), await metric('oldest_age_seconds')]).toEqual([0, 0, 0])
  await way.cut()
  let accepted = 0
  await eventually(async () => {
    const { status } = await postCallbacks(ingest, aCallback(accepted + 1))
    if (status === 200) accepted += 1
    expect(status).toBe(503)
  })
  expect(accepted).toBeGreaterThan(0)
  expect(await ingest.ready()).toBe(false)
  expect(await metric('groups')).toBeGreaterThanOrEqual(accepted)
  expect(await metric('bytes')).toBeGreaterThan(1000)
  expect(await metric('bytes')).toBeLessThanOrEqual(4000)
  expect(await metric('oldest_age_seconds')).toBeGreaterThan(0)
  await way.restore()
  await using _worker = await startWorker(database)
  await eventually(async () => expect((await postCallbacks(ingest, aCallback(accepted + 1))).status).toBe(200))
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(accepted + 1))
})

test('ringback spool lists what waits, and drains what no ingest holds', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using dir = await temporaryFolder()
  const spool = { dir: dir.path, maxBytes: MAX_BYTES }
  await way.cut()
  {
    await using ingest = await startIngest(database, { queue: { ...database.queue, url: way.url }, spool })
    await sendAll(ingest, 1, 10)
    const { output } = await runCli({ SPOOL_DIR: dir.path }, '--json', 'spool', 'list')
    expect(JSON.parse(output)).toMatchObject({ folder: join(dir.path, '0'), held: true })
  }
  const { output } = await runCli({ SPOOL_DIR: dir.path }, '--json', 'spool', 'list')
  expect(JSON.parse(output)).toMatchObject({ held: false, groups: expect.any(Number), oldestAt: expect.any(String) })
  const environment = await environmentFor(database)
  const drained = await runCli({ SPOOL_DIR: dir.path, ...environment }, '--json', 'spool', 'drain')
  expect(drained).toMatchObject({ code: 0 })
  expect(await holdsGroups(join(dir.path, '0'))).toBe(false)
  expect(await readdir(join(dir.path, '0'))).not.toContain('000000000001.groups')
  {
    // The processes of the CLI know no prefix.
    const queue = {
      ...database.queue,
      ...(environment.REDIS_URL && { url: environment.REDIS_URL, prefix: '{ringback}' }),
    }
    await using _worker = await startWorker(database, { queue })
    await expectStoredOnce(database, 10)
  }

  const held = (await openSpool(join(dir.path, '0'), { maxBytes: MAX_BYTES, log }))!
  expect(await runCli({ SPOOL_DIR: dir.path, ...environment }, 'spool', 'drain')).toMatchObject({ code: 0 })
  await held.append({ id: 'group-x', at: Date.now(), job: {} })
  const refused = await runCli({ SPOOL_DIR: dir.path, ...environment }, 'spool', 'drain')
  expect(refused.code).toBe(1)
  expect(refused.output).toMatch(/held/)
  await held.close()
})

test('ringback spool list shows the spools beside one that it cannot look at, and says which that is', async () => {
  await using dir = await temporaryFolder()
  await writeFile(join(dir.path, '0'), 'not a folder')
  const listed = () => runCli({ SPOOL_DIR: dir.path }, 'spool', 'list')
  expect(await listed()).toEqual({ code: 1, output: expect.stringMatching(new RegExp(`^${join(dir.path, '0')}: `)) })
  await mkdir(join(dir.path, '1'))
  expect(await listed()).toMatchObject({ code: 1, output: expect.stringContaining(join(dir.path, '1')) })
})

test('ringback spool says that nothing waits only of a folder that it can read', async () => {
  await using database = await freshDatabase()
  await using dir = await temporaryFolder()
  await writeFile(join(dir.path, 'file'), '')
  const environment = await environmentFor(database)
  for (const command of ['list', 'drain']) {
    expect(await runCli({ ...environment, SPOOL_DIR: dir.path }, 'spool', command)).toMatchObject({ code: 0 })
    for (const [wrong, code] of [
      ['misspelt', 'ENOENT'],
      ['file', 'ENOTDIR'],
    ] as const) {
      expect(await runCli({ ...environment, SPOOL_DIR: join(dir.path, wrong) }, 'spool', command)).toEqual({
        code: 1,
        output: expect.stringMatching(new RegExp(`^SPOOL_DIR cannot be read: .*\\n  because: ${code}`)),
      })
    }
  }
})

test('ringback spool drain goes on behind a spool that cannot be drained, and says what is damaged', async () => {
  await using database = await freshDatabase()
  await using dir = await temporaryFolder()
  const file = (number: string) => join(dir.path, number, '000000000001.groups')
  await mkdir(file('0'), { recursive: true }) // a folder in its place cannot be read
  const group = { at: Date.now(), job: storeJob([]) }
  const spool = (await openSpool(join(dir.path, '1'), { maxBytes: MAX_BYTES, log }))!
  for (const id of ['group-a', 'group-b']) await spool.append({ id, ...group })
  await spool.close()
  const content = await readFile(file('1'))
  content[20]! ^= 1
  await writeFile(file('1'), content)

  const environment = { SPOOL_DIR: dir.path, ...(await environmentFor(database)) }
  const { code, output } = await runCli(environment, '--json', 'spool', 'drain')
  expect(code).toBe(1)
  expect(output).toContain('{"drained":1,"held":[]}')
  expect(output).toContain(`cannot be read: ${file('0')}`)
  expect(output).toMatch(/"spool.damaged"/)
  expect(await holdsGroups(join(dir.path, '1'))).toBe(false)
})
