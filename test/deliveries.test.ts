import { describe, expect, test } from 'vitest'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import { code, HandlerError } from '@ringback/core/handlers'
import type { HandledEvent, HandlerContext } from '@ringback/core/handlers'
import { createRegistry } from '@ringback/core/metrics'
import { deliver } from './support/deliver.ts'
import {
  aCallback,
  configWith,
  environmentFor,
  eventually,
  freshDatabase,
  keptLog,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { configFileWith, ingestPort, runApp } from './support/processes.ts'

/** Soon enough for a test; the schedule itself is a pure function with tests of its own. */
const soon = { firstDelayMs: 100, maxDelayMs: 100 }

function withHandlers(...handlers: HandlerDefinition[]): Config {
  return configWith({ handlers })
}

const receiveOne = (database: Database, config: Config) => deliver(database, config, aCallback(1))

/** Makes what is due later due now, as if the time had passed. */
async function letTimePass({ sql }: Database): Promise<void> {
  await sql`update deliveries set next_attempt_at = now() - interval '1 hour', lease_until = lease_until - interval '1 hour' where status = 'pending'`
}

test('a handler that fails is tried again until it succeeds, and every attempt is recorded', async () => {
  await using database = await freshDatabase()
  const keys: string[] = []
  const failTwice = async (_event: unknown, { attempt, idempotencyKey }: HandlerContext) => {
    keys.push(idempotencyKey)
    if (attempt < 3) throw new Error(`not yet: ${attempt}`)
  }
  await receiveOne(database, withHandlers({ name: 'flaky', run: code(failTwice), retry: soon }))
  expect(await database.sql`select status, attempts, last_error from deliveries`).toEqual([
    { status: 'succeeded', attempts: 3, last_error: null },
  ])
  expect(await database.sql`select number, outcome, error from attempts order by number`).toEqual([
    { number: 1, outcome: 'failed', error: 'not yet: 1' },
    { number: 2, outcome: 'failed', error: 'not yet: 2' },
    { number: 3, outcome: 'succeeded', error: null },
  ])
  expect(new Set(keys).size).toBe(1)
})

test('after its last attempt a delivery is a dead letter with the last error', async () => {
  await using database = await freshDatabase()
  const fail = () => Promise.reject(new Error('no\u0000pe'))
  await receiveOne(database, withHandlers({ name: 'hopeless', run: code(fail), retry: { ...soon, maxAttempts: 2 } }))
  const [delivery] = await database.sql`select * from deliveries`
  expect(delivery).toMatchObject({
    status: 'dead',
    attempts: 2,
    last_error: 'no\ufffdpe',
    next_attempt_at: null,
    lease_until: null,
  })
  expect(delivery!.finished_at).toBeInstanceOf(Date)
})

test('a handler without limits, which cannot be disabled, has its last attempt also where its destination is gone', async () => {
  await using database = await freshDatabase()
  const gone = () => Promise.reject(new HandlerError('gone', { retryable: true, isGone: true }))
  // The second is the last: it would go on for ever, each hour, if it waited for somebody to enable the handler.
  await receiveOne(database, withHandlers({ name: 'gone', run: code(gone), retry: { ...soon, maxAttempts: 2 } }))
  expect(await database.sql`select status, attempts from deliveries`).toEqual([{ status: 'dead', attempts: 2 }])
})

test('an error that says so is not tried again', async () => {
  await using database = await freshDatabase()
  const refuse = () => {
    throw new HandlerError('the service knows no such account', { retryable: false })
  }
  await receiveOne(database, withHandlers({ name: 'final', run: code(refuse), retry: soon }))
  expect(await database.sql`select status, attempts from deliveries`).toEqual([{ status: 'dead', attempts: 1 }])
})

test('a handler past its time limit has failed, and its signal has fired', async () => {
  await using database = await freshDatabase()
  const signals: AbortSignal[] = []
  const hang = (_event: unknown, { signal }: HandlerContext) => {
    signals.push(signal)
    return new Promise<void>(() => {})
  }
  await receiveOne(
    database,
    withHandlers({ name: 'slow', run: code(hang, { timeoutMs: 100 }), retry: { maxAttempts: 1 } }),
  )
  expect(await database.sql`select status, last_error from deliveries`).toEqual([
    { status: 'dead', last_error: 'not done within 100 ms' },
  ])
  expect(signals.map(({ aborted }) => aborted)).toEqual([true])
})

test('of deliveries that begin together only those past the time limit fail', async () => {
  await using database = await freshDatabase()
  const run = ({ callbackId }: HandledEvent) => (callbackId === '7' ? new Promise<void>(() => {}) : undefined)
  // One attempt, so that what is too late is a dead letter at once.
  const config = withHandlers({ name: 'hangs', run: code(run, { timeoutMs: 300 }), retry: { maxAttempts: 1 } })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...Array.from({ length: 20 }, (_, index) => aCallback(index)))
  await eventually(async () => {
    expect(
      await database.sql`select status, count(*)::integer from deliveries group by status order by status`,
    ).toEqual([
      { status: 'dead', count: 1 },
      { status: 'succeeded', count: 19 },
    ])
  })
})

function throwing(): never {
  throw new Error('not even this')
}

function revokedProxy(): Error {
  const { proxy, revoke } = Proxy.revocable(new Error('no'), {})
  revoke()
  return proxy
}

test.each([
  ['a wait that is no number', () => new HandlerError('no', { retryable: true, retryAfterMs: Number.NaN })],
  ['a wait with a fraction', () => new HandlerError('no', { retryable: true, retryAfterMs: 90_000.5 })],
  ['an answer that is no text', () => new HandlerError('no', { retryable: true, response: { not: 'text' } as never })],
  ['a status that is none', () => new HandlerError('no', { retryable: true, statusCode: 10 ** 12 })],
  ['what is no error and no text', () => Object.create(null) as Error],
  ['a stack that is no text', () => Object.assign(new Error('no'), { stack: { not: 'text' } })],
  ['a message that is no text', () => Object.assign(new Error(), { message: 7 })],
  ['a message that throws', () => Object.defineProperty(new Error(), 'message', { get: throwing })],
  ['a proxy that has been revoked', revokedProxy],
  ['a wait that is a BigInt', () => new HandlerError('no', { retryable: true, retryAfterMs: 5n as never })],
])('%s from one handler costs the others that ran with it nothing', async (_name, reason) => {
  await using database = await freshDatabase()
  const runs = new Map<string, number>()
  const run = ({ callbackId }: HandledEvent) => {
    runs.set(callbackId, (runs.get(callbackId) ?? 0) + 1)
    if (callbackId === '7') throw reason()
  }
  // So that the second attempt of the seventh does not come into the count.
  const config = withHandlers({ name: 'odd', run: code(run), retry: { firstDelayMs: 60_000 } })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...Array.from({ length: 10 }, (_, index) => aCallback(index)))
  await eventually(async () => {
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(9)
    expect(await database.sql`select outcome from attempts where outcome = 'failed'`).toHaveLength(1)
  })
  expect([...runs.values()]).toEqual(Array.from({ length: 10 }, () => 1))
})

test('a promise that a handler does not wait for is logged where it rejects, and the worker goes on', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using file = await configFileWith(`[
    { name: 'careless', run: code(() => void Promise.reject(new Error('lost'))) },
    { name: 'careful', run: code(() => {}) },
  ]`)
  await using ingest = runApp('ingest', { ...environment, RINGBACK_CONFIG: file.path, PORT: '0' })
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path })
  const target = { port: await ingestPort(ingest) }
  for (const callbackId of [1, 2]) {
    await postCallbacks(target, aCallback(callbackId))
    await eventually(async () =>
      expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(2 * callbackId),
    )
  }
  const [line] = await worker.prints(/^.*"handler\.stray_rejection".*$/m)
  expect(JSON.parse(line)).toMatchObject({ handler: 'careless', attempt: 1, error: 'lost' })
  expect(await database.sql`select from attempts`).toHaveLength(4)
})

test('what is over is recorded, although something that began with it goes on', async () => {
  await using database = await freshDatabase()
  const { promise: hanging, resolve: release } = Promise.withResolvers<void>()
  const run = ({ callbackId }: HandledEvent) => (callbackId === '7' ? hanging : undefined)
  const config = withHandlers({ name: 'uneven', run: code(run, { timeoutMs: 600_000 }) })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...Array.from({ length: 20 }, (_, index) => aCallback(index)))
  const succeeded = (count: number) =>
    eventually(async () =>
      expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(count),
    )
  await succeeded(19)
  release()
  await succeeded(20)
})

test("a handler's own lines name its event, delivery, handler and attempt", async () => {
  await using database = await freshDatabase()
  const { lines, log } = keptLog()
  const say = ({ callbackId }: HandledEvent, context: HandlerContext) => context.log.info({ callbackId }, 'rang')
  const config = withHandlers({ name: 'says', run: code(say) })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config, log })
  await postCallbacks(ingest, aCallback(1), aCallback(2))
  const own = () =>
    lines.filter(({ msg }) => msg === 'rang').toSorted((a, b) => Number(a.callbackId) - Number(b.callbackId))
  await eventually(async () => expect(own()).toHaveLength(2))
  expect(own()).toMatchObject(
    await database.sql`
      select e.callback_id as "callbackId", e.id as "eventId", d.id as "deliveryId", d.handler, 1 as attempt
      from deliveries as d join events as e on e.id = d.event_id order by 1`,
  )
})

test('an attempt says why the fetch of its function failed', async () => {
  await using database = await freshDatabase()
  const ask = async () => void (await fetch('http://127.0.0.1:2/'))
  // One attempt, so that the first failure is the last error.
  const config = withHandlers({ name: 'asks', run: code(ask), retry: { maxAttempts: 1 } })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, aCallback(1))
  await eventually(async () =>
    expect(await database.sql`select last_error, status from deliveries`).toEqual([
      { last_error: 'fetch failed: connect ECONNREFUSED 127.0.0.1:2', status: 'dead' },
    ]),
  )
})

test('the log says where a handler threw, and of a HandlerError only what it says', async () => {
  await using database = await freshDatabase()
  const { lines, log } = keptLog()
  function readTooDeep({ payload }: HandledEvent) {
    void (payload as { missing: { deep: string } }).missing.deep
  }
  const refuse = () => {
    throw new HandlerError('no', { retryable: false })
  }
  const retry = { maxAttempts: 1 }
  const config = withHandlers(
    { name: 'broken', run: code(readTooDeep), retry },
    { name: 'refusing', run: code(refuse), retry },
  )
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config, log })
  await postCallbacks(ingest, aCallback(1))
  const finished = (handler: string) =>
    lines.filter((line) => line.msg === 'attempt.finished' && line.handler === handler)
  await eventually(async () => expect([...finished('broken'), ...finished('refusing')]).toHaveLength(2))
  const [broken] = finished('broken')
  expect(broken).toMatchObject({ error: expect.stringContaining("reading 'deep'") })
  const frames = String(broken!.stack).split('\n')
  expect(frames.length).toBeLessThanOrEqual(5)
  expect(frames[0]).toMatch(/^at .*readTooDeep.* \(.*deliveries\.test\.ts:\d+:\d+\)$/)
  expect(finished('refusing')[0]).not.toHaveProperty('stack')
})

test('deliveries that begin, and attempts that end, stay in their page and leave the indexes alone', async () => {
  await using database = await freshDatabase()
  const config = withHandlers({ name: 'works', run: code(() => {}) })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  // Enough to fill pages.
  await postCallbacks(ingest, ...Array.from({ length: 400 }, (_, index) => aCallback(index)))
  await eventually(async () => {
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(400)
  })
  await eventually(async () => {
    const [updates] = await database.sql`
      select
        sum(n_tup_hot_upd) filter (where relname like 'deliveries\\_%')::integer as deliveries,
        sum(n_tup_hot_upd) filter (where relname like 'attempts\\_%')::integer as attempts
      from pg_stat_user_tables`
    expect(updates!.attempts).toBe(400)
    // All but the last few of a page whose first ones have already ended, and taken the room.
    expect(updates!.deliveries).toBeGreaterThanOrEqual(360)
  })
})

test('one handler that fails holds up no other', async () => {
  await using database = await freshDatabase()
  const config = withHandlers(
    { name: 'fails', run: code(() => Promise.reject(new Error('no'))), retry: { maxAttempts: 1 } },
    { name: 'works', run: code(() => {}) },
    { name: 'elsewhere', on: { account: 'another' }, run: code(() => {}) },
  )
  await receiveOne(database, config)
  expect(await database.sql`select handler, status from deliveries order by handler`).toEqual([
    { handler: 'fails', status: 'dead' },
    { handler: 'works', status: 'succeeded' },
  ])
})

describe('the scanner repairs', () => {
  test('deliveries that were stored and never enqueued', async () => {
    await using database = await freshDatabase()
    const config = withHandlers({ name: 'later', run: code(() => {}) })
    // Stored by a worker whose configuration has the handler, and which died before it enqueued anything.
    await using ingest = await startIngest(database, { config })
    await postCallbacks(ingest, aCallback(1))
    {
      await using _storing = await startWorker(database)
      await eventually(async () => expect(await database.sql`select from events`).toHaveLength(1))
    }
    await database.sql`
      insert into deliveries (event_id, event_received_at, handler, next_attempt_at, lease_until)
      select id, received_at, 'later', now(), now() - interval '1 second' from events`
    await using _worker = await startWorker(database, { config })
    await eventually(async () =>
      expect(await database.sql`select status, attempts from deliveries`).toEqual([
        { status: 'succeeded', attempts: 1 },
      ]),
    )
  })

  test('attempts whose worker was not heard of again: they are abandoned, and another is made', async () => {
    await using database = await freshDatabase()
    const { promise: hanging, resolve: endHanging } = Promise.withResolvers<void>()
    let runs = 0
    const hangOnce = () => ((runs += 1) === 1 ? hanging : undefined)
    // Even where one attempt is all there is: the abandoned one may not have begun.
    const config = withHandlers({
      name: 'interrupted',
      run: code(hangOnce, { timeoutMs: 100_000 }),
      retry: { maxAttempts: 1 },
    })
    await using ingest = await startIngest(database, { config })
    await using _slow = await startWorker(database, { config })
    await postCallbacks(ingest, aCallback(1))
    await eventually(async () => expect(await database.sql`select from attempts`).toHaveLength(1))
    await letTimePass(database)
    await eventually(async () => {
      expect(await database.sql`select number, outcome from attempts order by number`).toEqual([
        { number: 1, outcome: 'abandoned' },
        { number: 2, outcome: 'succeeded' },
      ])
    })
    endHanging()
    expect(await database.sql`select status, attempts from deliveries`).toEqual([{ status: 'succeeded', attempts: 2 }])
  })

  test('deliveries whose handler has gone from the configuration become dead letters that say so', async () => {
    await using database = await freshDatabase()
    const failing = withHandlers({ name: 'gone', run: code(() => Promise.reject(new Error('no'))) })
    await using ingest = await startIngest(database)
    {
      await using _before = await startWorker(database, { config: failing })
      await postCallbacks(ingest, aCallback(1))
      await eventually(async () =>
        expect(await database.sql`select from attempts where outcome = 'failed'`).toHaveLength(1),
      )
    }
    await letTimePass(database)
    const registry = createRegistry()
    await using _after = await startWorker(database, { registry })
    await eventually(async () =>
      expect(await database.sql`select status, last_error from deliveries`).toEqual([
        { status: 'dead', last_error: 'the handler "gone" is not in the configuration any more' },
      ]),
    )
    await eventually(async () =>
      expect(await registry.metrics()).toContain('ringback_deliveries_total{handler="gone",status="dead"} 1'),
    )
  })

  test('the last attempt, abandoned again and again: its delivery becomes a dead letter that says so', async () => {
    await using database = await freshDatabase()
    const config = withHandlers({ name: 'fatal', run: code(() => Promise.reject(new Error('no'))) })
    await using ingest = await startIngest(database, { config })
    {
      await using _before = await startWorker(database, { config })
      await postCallbacks(ingest, aCallback(1))
      await eventually(async () =>
        expect(await database.sql`select from attempts where outcome = 'failed'`).toHaveLength(1),
      )
    }
    await database.sql`update attempts set number = 10, outcome = null`
    await database.sql`
      update deliveries set attempts = 10, next_attempt_at = now(), lease_until = now() - interval '1 second'`
    const registry = createRegistry()
    await using _after = await startWorker(database, { config, registry })
    await eventually(async () =>
      expect(await database.sql`select status, last_error from deliveries`).toEqual([
        { status: 'dead', last_error: 'the last attempt was abandoned: its worker was not heard of again' },
      ]),
    )
    await eventually(async () =>
      expect(await registry.metrics()).toContain('ringback_deliveries_total{handler="fatal",status="dead"} 1'),
    )
  })
})

test('a delivery that is due for two scanners at once runs once', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const config = withHandlers({ name: 'counted', run: code(() => void (runs += 1)) })
  await receiveOne(database, config)
  await using _first = await startWorker(database, { config })
  await using _second = await startWorker(database, { config })
  await database.sql`update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null`
  await eventually(async () =>
    expect(await database.sql`select status, attempts from deliveries`).toEqual([{ status: 'succeeded', attempts: 2 }]),
  )
  expect(runs).toBe(2)
})
