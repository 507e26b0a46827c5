import { expect, test } from 'vitest'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import { code, HandlerError } from '@ringback/core/handlers'
import { configFile, runApp } from './support/processes.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  postCallbacks,
  startIngest,
  startWorker,
  ownRedis,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

/** Soon enough for a test; the schedule itself is a pure function with tests of its own. */
const soon = { firstDelayMs: 100, maxDelayMs: 100, maxAttempts: 100 }

function withHandlers(...handlers: HandlerDefinition[]): Config {
  return configWith({ handlers })
}

const manyCallbacks = (count: number, fields: Record<string, unknown> = {}, first = 1) =>
  Array.from({ length: count }, (_, index) => aCallback(first + index, fields))

/** Makes what waits due, as if the time had passed. */
async function makeDue({ sql }: Database): Promise<void> {
  await sql`update deliveries set next_attempt_at = now(), lease_until = null where status = 'pending' and not running`
}

/** Waits until workers have looked at all that is due, and put it off. */
async function untilPutOff({ sql }: Database): Promise<void> {
  await eventually(async () =>
    expect(
      await sql`select from deliveries where status = 'pending' and not running and (next_attempt_at <= now() or lease_until is not null)`,
    ).toHaveLength(0),
  )
}

const untilAllSucceeded = ({ sql }: Database, count: number) =>
  eventually(async () =>
    expect(await sql`select status, count(*)::integer from deliveries group by status`).toEqual([
      { status: 'succeeded', count },
    ]),
  )

async function destination({ sql }: Database): Promise<Record<string, unknown>> {
  const [row] = await sql`select * from destinations`
  return row!
}

async function attemptsMade({ sql }: Database): Promise<number> {
  const [row] = await sql<{ rows: number; counted: number }[]>`
    select (select count(*)::integer from attempts) as rows, (select sum(attempts)::integer from deliveries) as counted`
  expect(row!.rows).toBe(row!.counted)
  return row!.rows
}

test('two workers together never have more under way than the concurrency', async () => {
  await using database = await freshDatabase()
  let running = 0
  let most = 0
  const work = async () => {
    running += 1
    most = Math.max(most, running)
    await new Promise((resolve) => setTimeout(resolve, 20))
    running -= 1
  }
  const config = withHandlers({ name: 'narrow', run: code(work), limits: { concurrency: 3 } })
  await using ingest = await startIngest(database, { config })
  await using _first = await startWorker(database, { config })
  await using _second = await startWorker(database, { config })
  await Promise.all([1, 101, 201, 301].map((first) => postCallbacks(ingest, ...manyCallbacks(20, {}, first))))
  await untilAllSucceeded(database, 80)
  expect(most).toBe(3)
  expect(await attemptsMade(database)).toBe(80)
})

test('two workers together keep the rate', async () => {
  await using database = await freshDatabase()
  const startedAt: number[] = []
  const config = withHandlers({
    name: 'metered',
    run: code(() => void startedAt.push(performance.now())),
    limits: { perSecond: 10 },
  })
  await using ingest = await startIngest(database, { config })
  await using _first = await startWorker(database, { config })
  await using _second = await startWorker(database, { config })
  const sentAt = performance.now()
  await Promise.all([1, 101, 201].map((first) => postCallbacks(ingest, ...manyCallbacks(15, {}, first))))
  await untilAllSucceeded(database, 45)
  // What has begun at any time is at most one burst and the rate since then, however long the way to the handler takes.
  for (const [index, at] of startedAt.entries()) {
    expect(index + 1).toBeLessThanOrEqual(10 + ((at - sentAt) * 10) / 1000)
  }
  // And the rate is made use of: 10 at once, and 35 in 3.5 s, with twice the time allowed.
  expect(startedAt.at(-1)! - startedAt[0]!).toBeLessThan(7000)
  expect(await attemptsMade(database)).toBe(45)
})

test('a breaker opens by the share of failures, uses up no attempt while open, and lets one delivery try', async () => {
  await using database = await freshDatabase()
  let runs = 0
  let isDown = true
  const trial = Promise.withResolvers<void>()
  const work = () => {
    runs += 1
    if (isDown) throw new Error('down')
    return runs === 6 ? trial.promise : undefined
  }
  const breaker = { failureShare: 0.8, minAttempts: 5, windowMs: 60_000, openMs: 600_000 }
  const config = withHandlers({
    name: 'failing',
    run: code(work, { timeoutMs: 50_000 }),
    retry: soon,
    limits: { concurrency: 1, breaker },
  })
  await using ingest = await startIngest(database, { config })
  await using _first = await startWorker(database, { config })
  await using _second = await startWorker(database, { config })
  await postCallbacks(ingest, ...manyCallbacks(20))

  await eventually(async () => expect(await destination(database)).toMatchObject({ state: 'open', openings: 1 }))
  await eventually(async () => expect(await attemptsMade(database)).toBe(5))
  await makeDue(database)
  await untilPutOff(database)
  expect(runs).toBe(5)
  expect(await attemptsMade(database)).toBe(5)
  expect(await destination(database)).toMatchObject({
    window_attempts: 5,
    window_failures: 5,
    consecutive_failures: 5,
    last_error: 'down',
    last_success_at: null,
  })

  isDown = false
  await database.sql`update destinations set open_until = now()`
  await makeDue(database)
  await eventually(async () => expect(runs).toBe(6))
  await makeDue(database)
  await untilPutOff(database)
  expect(runs).toBe(6)
  expect(await destination(database)).toMatchObject({ state: 'half_open' })

  trial.resolve()
  await untilAllSucceeded(database, 20)
  expect(await attemptsMade(database)).toBe(25)
  expect(await destination(database)).toMatchObject({
    state: 'closed',
    openings: 0,
    open_until: null,
    last_error: 'down',
  })
  const [failed] = await database.sql`select from destinations where last_failure_at < last_success_at`
  expect(failed).toBeDefined()
})

test('a breaker whose trial fails stays open twice as long', async () => {
  await using database = await freshDatabase()
  const breaker = { failureShare: 1, minAttempts: 1, windowMs: 60_000, openMs: 600_000 }
  const config = withHandlers({
    name: 'down',
    run: code(() => Promise.reject(new Error('down'))),
    retry: soon,
    limits: { concurrency: 1, breaker },
  })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...manyCallbacks(3))
  for (const [openings, openMs] of [
    [1, 600_000],
    [2, 1_200_000],
    [3, 2_400_000],
  ] as const) {
    await eventually(async () => expect(await destination(database)).toMatchObject({ state: 'open', openings }))
    const [row] = await database.sql`
      select extract(epoch from open_until - last_failure_at)::float8 * 1000 as "openMs" from destinations`
    expect(Math.abs(row!.openMs - openMs)).toBeLessThan(5000)
    expect(await attemptsMade(database)).toBe(openings)
    await database.sql`update destinations set open_until = now()`
    await makeDue(database)
  }
})

test('a trial that succeeds closes the breaker, whatever else ends meanwhile that began before it opened', async () => {
  await using database = await freshDatabase()
  const hanging = Promise.withResolvers<void>()
  const trial = Promise.withResolvers<void>()
  const work = async ({ callbackId }: { callbackId: string }) => {
    if (callbackId === '5') return trial.promise
    if (callbackId === '3' || callbackId === '4') await hanging.promise
    throw new Error('down')
  }
  const breaker = { failureShare: 0.5, minAttempts: 2, windowMs: 60_000, openMs: 1000 }
  const config = withHandlers({
    name: 'slow',
    run: code(work, { timeoutMs: 50_000 }),
    retry: { maxAttempts: 1 }, // a failure that came again would be another attempt for the breaker to count
    limits: { breaker },
  })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...manyCallbacks(2, {}, 3))
  await eventually(async () => expect(await attemptsMade(database)).toBe(2))
  await postCallbacks(ingest, ...manyCallbacks(2))
  await eventually(async () => expect(await destination(database)).toMatchObject({ state: 'open' }))
  await postCallbacks(ingest, aCallback(5))
  await eventually(async () => expect(await destination(database)).toMatchObject({ state: 'half_open' }))

  hanging.resolve()
  await eventually(async () => expect(await destination(database)).toMatchObject({ consecutive_failures: 4 }))
  expect(await destination(database)).toMatchObject({ state: 'half_open', openings: 1 })
  trial.resolve()
  await eventually(async () =>
    expect(await destination(database)).toMatchObject({ state: 'closed', openings: 0, consecutive_failures: 0 }),
  )
})

test('a destination that is gone is disabled, and what waits for it stays pending until it is enabled', async () => {
  await using database = await freshDatabase()
  let isGone = true
  const work = () => {
    if (isGone) throw new HandlerError('410 Gone', { retryable: false, statusCode: 410, isGone: true })
  }
  const config = withHandlers({ name: 'gone', run: code(work), retry: soon, limits: { concurrency: 1 } })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...manyCallbacks(5))
  await eventually(async () => expect(await destination(database)).toMatchObject({ state: 'disabled' }))
  await makeDue(database)
  await untilPutOff(database)
  expect(await attemptsMade(database)).toBe(1)
  expect(await database.sql`select distinct status from deliveries`).toEqual([{ status: 'pending' }])
  expect(await database.sql`select outcome, status_code, error from attempts`).toEqual([
    { outcome: 'failed', status_code: 410, error: '410 Gone' },
  ])

  isGone = false
  await database.sql`update destinations set state = 'closed'`
  await makeDue(database)
  await untilAllSucceeded(database, 5)
  expect(await attemptsMade(database)).toBe(6)
})

test('without its limits a handler waits for nothing that was found by them, and with new ones it begins anew', async () => {
  await using database = await freshDatabase()
  await database.sql`insert into destinations (handler, state, openings) values ('crm', 'disabled', 3)`
  const crm = { name: 'crm', run: code(() => {}) }
  await using ingest = await startIngest(database)
  {
    await using _worker = await startWorker(database, { config: withHandlers(crm) })
    await postCallbacks(ingest, aCallback(1))
    await untilAllSucceeded(database, 1)
    expect(await destination(database)).toMatchObject({ limited: false, state: 'closed', openings: 0 })
  }
  await using _worker = await startWorker(database, { config: withHandlers({ ...crm, limits: { concurrency: 1 } }) })
  await postCallbacks(ingest, aCallback(2))
  await untilAllSucceeded(database, 2)
  expect(await destination(database)).toMatchObject({ limited: true, state: 'closed' })
})

test('a thousand slow deliveries of one destination do not delay those of another', async () => {
  await using database = await freshDatabase()
  const gate = Promise.withResolvers<void>()
  const arrived = new Map<string, (at: number) => void>()
  const config = withHandlers(
    { name: 'slow', on: { type: 'sms_inbound' }, run: code(() => gate.promise, { timeoutMs: 60_000 }) },
    { name: 'limited', on: { type: 'sms_inbound' }, run: code(() => gate.promise), limits: { concurrency: 10 } },
    {
      name: 'quick',
      on: { type: 'min_balance' },
      run: code(({ callbackId }) => arrived.get(callbackId)?.(performance.now())),
      limits: { concurrency: 10 },
    },
  )
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })

  /** Sends callbacks one after the other, and gives the longest time until the handler ran. */
  async function longestWayMs(first: number): Promise<number> {
    const ways: number[] = []
    for (let id = first; id < first + 20; id++) {
      const { promise, resolve } = Promise.withResolvers<number>()
      arrived.set(String(id), resolve)
      const sentAt = performance.now()
      await postCallbacks(ingest, aCallback(id, { type: 'min_balance' }))
      ways.push((await promise) - sentAt)
    }
    return Math.max(...ways)
  }

  const aloneMs = await longestWayMs(10_000)
  for (let first = 1; first < 1000; first += 100) {
    await postCallbacks(ingest, ...manyCallbacks(100, { type: 'sms_inbound' }, first))
  }
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status = 'pending'`).toHaveLength(2000),
  )
  const besideMs = await longestWayMs(20_000)
  gate.resolve()
  expect(besideMs).toBeLessThan(aloneMs + 700)
})

test('the place of a killed worker is free when its lease has run out', async () => {
  await using database = await freshDatabase()
  const environment: Record<string, string> = { DATABASE_URL: database.url }
  if (database.queue.kind === 'redis') {
    // Processes know no queue prefix: a database of the server for this test alone.
    const url = await ownRedis()
    environment.REDIS_URL = url
    database.queue = { kind: 'redis', url, prefix: '{ringback}' }
  }
  const limits = { concurrency: 1 }
  await using file = await configFile(`
    import { code } from '@ringback/core/handlers'
    export default {
      sources: {},
      handlers: [{ name: 'narrow', run: code(() => new Promise(() => {}), { timeoutMs: 600_000 }), limits: { concurrency: 1 } }],
    }`)
  let runs = 0
  const config = withHandlers({ name: 'narrow', run: code(() => void (runs += 1)), limits })
  await using ingest = await startIngest(database, { config })
  await using killed = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path })
  await postCallbacks(ingest, ...manyCallbacks(3))
  await eventually(async () => expect(await database.sql`select from deliveries where running`).toHaveLength(1))
  killed.child.kill('SIGKILL')
  await killed.ended

  await using _next = await startWorker(database, { config })
  await makeDue(database)
  await untilPutOff(database)
  expect(runs).toBe(0)
  await database.sql`update deliveries set lease_until = now() - interval '1 second', next_attempt_at = now() where running`
  await makeDue(database)
  await untilAllSucceeded(database, 3)
  expect(runs).toBe(3)
  expect(await database.sql`select number, outcome from attempts where outcome = 'abandoned'`).toEqual([
    { number: 1, outcome: 'abandoned' },
  ])
  expect(await attemptsMade(database)).toBe(4)
})

test('callbacks are stored while jobs of any number wait for destinations that another worker has locked', async () => {
  await using database = await freshDatabase()
  const run = code(() => {})
  const config = withHandlers(...['a', 'b', 'c'].map((name) => ({ name, run, limits: { concurrency: 100 } })))
  await using ingest = await startIngest(database, { config })
  // A session waits for a lock for a third of this time, which is longer than the test.
  await using _worker = await startWorker(database, { config, longestStatementMs: 600_000 })
  await database.sql.begin(async (frozen) => {
    await frozen`select from destinations for update`
    for (let id = 1; id <= 15; id++) {
      await postCallbacks(ingest, aCallback(id))
      await eventually(async () => expect(await database.sql`select from events`).toHaveLength(id), 5000)
    }
  })
  await untilAllSucceeded(database, 45)
})
