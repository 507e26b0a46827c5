import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { HandlerDefinition } from '@ringback/core/config'
import { code, HandlerError } from '@ringback/core/handlers'
import type { HandledEvent } from '@ringback/core/handlers'
import type { Sql } from '@ringback/core/store/connect'
import type { QueuedDelivery } from '../apps/worker/src/deliveries-table.ts'
import { addDestinations, lockDestination } from '../apps/worker/src/destinations-table.ts'
import { createRunDeliveries } from '../apps/worker/src/run-deliveries.ts'
import { configWith, eventually, freshDatabase, groupOf, log, queued, storeOneByOne } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

// What becomes of the deliveries of single jobs: with the queue and the scanner around them they are in deliveries.test.ts.

/** A runner for one handler named `own`, and jobs for it, each of `sizes` deliveries of callbacks 1, 2, 3 and so on. */
async function start(database: Database, definition: Omit<HandlerDefinition, 'name'>, sizes: number[]) {
  const config = configWith({ handlers: [{ name: 'own', ...definition }] })
  const ending = new AbortController()
  if (definition.limits !== undefined) await addDestinations(database.sql, ['own'])
  const runner = createRunDeliveries({
    sql: database.sql,
    config,
    random: () => 0,
    log,
    signal: ending.signal,
    onAttempt: () => {},
  })
  onTestFinished(runner.close)
  const deliveries: QueuedDelivery[] = []
  const store = storeOneByOne(database, {
    handlers: config.handlers,
    enqueueDeliveries: async (job) => void deliveries.push(...job.deliveries),
  })
  const count = sizes.reduce((sum, size) => sum + size, 0)
  await store(groupOf(Array.from({ length: count }, (_, index) => queued(String(index + 1)))))
  const callbackIds = new Map<string, number>()
  for (const { id, callbackId } of await database.sql<{ id: string; callbackId: string }[]>`
    select d.id, e.callback_id as "callbackId" from deliveries as d join events as e on e.id = d.event_id`)
    callbackIds.set(id, Number(callbackId))
  deliveries.sort((a, b) => callbackIds.get(a.id)! - callbackIds.get(b.id)!)
  const jobOf = (some: QueuedDelivery[], handler = 'own') => ({ version: '1', handler, deliveries: some })
  return { runner, end: () => ending.abort(), jobOf, jobs: sizes.map((size) => jobOf(deliveries.splice(0, size))) }
}

/** In the order of the callbacks. */
const rows = ({ sql }: Database) => sql`
  select
    d.status, d.attempts, d.running, extract(epoch from d.lease_until - now())::float8 as "leasedFor",
    extract(epoch from d.next_attempt_at - now())::float8 as "dueIn"
  from deliveries as d join events as e on e.id = d.event_id order by e.callback_id::integer`

function gate() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: () => resolve() }
}

test('a job for a handler that this worker does not know is left to those that do', async () => {
  await using database = await freshDatabase()
  const { runner, jobOf, jobs } = await start(database, { run: code(() => {}) }, [1])
  const before = await database.sql`select * from deliveries`
  await runner.process(jobOf(jobs[0]!.deliveries, 'another'))
  expect(await database.sql`select * from deliveries`).toEqual(before)
})

test('what has no turn waits in Postgres for a second, in nobody’s hand; what waits for its turn has it', async () => {
  await using database = await freshDatabase()
  const { opened, open } = gate()
  const run = code(() => opened, { timeoutMs: 60_000 })
  const { runner, jobs } = await start(
    database,
    { run },
    Array.from({ length: 33 }, () => 1),
  )
  let mayTakeMs = 0
  const inHand = jobs.slice(0, 32).map((job) => runner.process(job, (ms) => (mayTakeMs = ms)))
  await eventually(async () => expect(runner.running()).toBe(4))
  expect(runner.isFull('own')).toBe(true)
  await runner.process(jobs[32]!)
  const found = await rows(database)
  expect(found[32]).toMatchObject({ status: 'pending', attempts: 0, leasedFor: null })
  expect(found[32]!.dueIn).toBeGreaterThan(0)
  expect(found[32]!.dueIn).toBeLessThanOrEqual(1)
  // An attempt is leased for its time limit and some more; only those that are limited are counted in Postgres.
  expect(found[0]).toMatchObject({ attempts: 1, running: false })
  expect(found[0]!.leasedFor).toBeGreaterThan(60)
  expect(mayTakeMs).toBe(65_000)
  open()
  await Promise.all(inHand)
  expect(runner.running()).toBe(0)
  expect(runner.isFull('own')).toBe(false)
  expect((await rows(database)).map(({ status, attempts }) => `${status} ${attempts}`)).toEqual([
    ...Array.from({ length: 32 }, () => 'succeeded 1'),
    'pending 0',
  ])
})

test('a destination is waited for where that is short, and left to the scanner where it is not', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const limits = { perSecond: 5 }
  const often = await start(database, { run: code(() => void (runs += 1)), limits }, [7])
  await often.runner.process(often.jobs[0]!)
  expect(runs).toBe(7)

  await using another = await freshDatabase()
  const rare = await start(another, { run: code(() => void (runs += 1)), limits: { perSecond: 0.1 } }, [2])
  const startedAt = performance.now()
  await rare.runner.process(rare.jobs[0]!)
  expect(performance.now() - startedAt).toBeLessThan(5000)
  const [first, second] = await rows(another)
  expect(first).toMatchObject({ status: 'succeeded' })
  expect(second).toMatchObject({ status: 'pending', attempts: 0, leasedFor: null })
  expect(second!.dueIn).toBeGreaterThan(5)
})

test('when the process is to end nothing begins, and what has not begun is due at once', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const { runner, end, jobs } = await start(database, { run: code(() => void (runs += 1)) }, [2])
  end()
  await runner.process(jobs[0]!)
  expect(runs).toBe(0)
  for (const row of await rows(database)) {
    expect(row).toMatchObject({ status: 'pending', attempts: 0, leasedFor: null })
    expect(row.dueIn).toBeLessThanOrEqual(0)
  }
})

test('when the process is to end, what has not begun is handed back before those under way are over and recorded', async () => {
  await using database = await freshDatabase()
  const [quick, slow] = [gate(), gate()]
  const run = code(({ callbackId }: HandledEvent) => (callbackId === '1' ? quick : slow).opened)
  const { runner, end, jobs } = await start(database, { run, limits: { concurrency: 2 } }, [3])
  const processed = runner.process(jobs[0]!)
  await eventually(async () => expect(runner.running()).toBe(2))
  end()
  await eventually(async () => expect((await rows(database))[2]).toMatchObject({ attempts: 0, leasedFor: null }))
  quick.open()
  await eventually(async () =>
    expect((await rows(database)).map(({ status }) => status)).toEqual(['succeeded', 'pending', 'pending']),
  )
  slow.open()
  await processed
  expect((await rows(database)).map(({ status }) => status)).toEqual(['succeeded', 'succeeded', 'pending'])
})

/** From now on Postgres refuses every result, with this SQLSTATE. */
const refuseResults = ({ sql }: Database, state: string) =>
  sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'no' using errcode = '${state}'; end $$;
    create trigger refuse before update on attempts for each row execute function refuse()`)

test('a result that Postgres does not take is recorded when it does, and the handler runs once', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const { runner, jobs } = await start(database, { run: code(() => void (runs += 1)) }, [1])
  await refuseResults(database, '55000')
  const processed = runner.process(jobs[0]!)
  await eventually(async () => expect(runs).toBe(1))
  await sleep(300)
  await database.sql`drop trigger refuse on attempts`
  await processed
  expect(runs).toBe(1)
  expect(await rows(database)).toMatchObject([{ status: 'succeeded', attempts: 1 }])
})

test('a result that Postgres will never take, or not before the process ends, is given up', async () => {
  await using database = await freshDatabase()
  const { runner, end, jobs } = await start(database, { run: code(() => {}) }, [1, 1])
  await refuseResults(database, '23514')
  await expect(runner.process(jobs[0]!)).rejects.toThrow('no')
  await database.sql.unsafe(`drop function refuse cascade`)
  await refuseResults(database, '55000')
  const ended = expect(runner.process(jobs[1]!)).rejects.toThrow('no')
  await eventually(async () => expect((await rows(database))[1]).toMatchObject({ attempts: 1 }))
  end()
  await ended
}, 10_000)

test('whatever a handler says of its failure is recorded, as far as Postgres takes it', async () => {
  await using database = await freshDatabase()
  const run = code(() => {
    throw new HandlerError('no\u0000pe', { retryable: false, statusCode: 500, response: 'a\u0000b' })
  })
  const { runner, jobs } = await start(database, { run, limits: { concurrency: 1 } }, [1])
  await runner.process(jobs[0]!)
  expect(await rows(database)).toMatchObject([{ status: 'dead', attempts: 1 }])
  expect(await database.sql`select error, response from attempts`).toEqual([
    { error: 'no\ufffdpe', response: 'a\ufffdb' },
  ])
  expect(await database.sql`select last_error from destinations`).toEqual([{ last_error: 'no\ufffdpe' }])
})

test('an event that waited long until it was stored is tried as long as any other', async () => {
  await using database = await freshDatabase()
  const run = code(() => Promise.reject(new Error('no')))
  const { runner, jobs } = await start(database, { run, retry: { firstDelayMs: 1000, maxAgeMs: 60_000 } }, [1])
  // Received an hour ago: it was in a spool, or Postgres was down.
  const [early] = await database.sql<{ id: string; at: string }[]>`
    with moved as (select id, uuidv7(interval '-1 hour') as early from events),
    event as (
      update events as e set id = early, received_at = uuid_extract_timestamp(early) from moved where e.id = moved.id
    )
    update deliveries as d set event_id = early, event_received_at = uuid_extract_timestamp(early)
    from moved where d.event_id = moved.id
    returning d.id, d.event_received_at::text as at`
  await runner.process({ ...jobs[0]!, deliveries: [{ id: early!.id, attempt: '1', receivedAt: early!.at }] })
  expect(await rows(database)).toMatchObject([{ status: 'pending', attempts: 1 }])
})

test('what is recorded before the others of its job are over counts once for its destination', async () => {
  await using database = await freshDatabase()
  const { opened, open } = gate()
  const run = code(({ callbackId }: HandledEvent) => {
    if (callbackId === '1') throw new Error('no')
    return opened
  })
  const { runner, jobs } = await start(database, { run, limits: { concurrency: 2 } }, [2])
  const processed = runner.process(jobs[0]!)
  await eventually(async () =>
    expect(await database.sql`select window_attempts from destinations`).toEqual([{ window_attempts: 1 }]),
  )
  open()
  await processed
  expect(await database.sql`select window_attempts, window_failures from destinations`).toEqual([
    { window_attempts: 2, window_failures: 1 },
  ])
})

test('a failure that is recorded again, because the answer was lost, counts once for its destination', async () => {
  await using database = await freshDatabase()
  let isLost = false
  const begin = async (work: Parameters<Sql['begin']>[1]) => {
    const result = await database.sql.begin(work)
    // Only recording resolves to nothing.
    if (isLost || result !== undefined) return result
    isLost = true
    throw Object.assign(new Error('write CONNECTION_CLOSED'), { code: 'CONNECTION_CLOSED' })
  }
  const sql = new Proxy(database.sql, { get: (target, key) => (key === 'begin' ? begin : Reflect.get(target, key)) })
  const run = code(() => Promise.reject(new Error('no')))
  const { runner, jobs } = await start({ ...database, sql }, { run, limits: { concurrency: 1 } }, [1])
  await runner.process(jobs[0]!)
  expect(isLost).toBe(true)
  expect(await database.sql`select window_attempts, window_failures, consecutive_failures from destinations`).toEqual([
    { window_attempts: 1, window_failures: 1, consecutive_failures: 1 },
  ])
})

test('of attempts that are over together any may say that their destination is gone, and the last error is kept', async () => {
  await using database = await freshDatabase()
  const run = code(async ({ callbackId }: HandledEvent) => {
    if (callbackId === '1') throw new Error('first')
    await sleep(30)
    throw new HandlerError('second', { retryable: true, isGone: true })
  })
  const { runner, jobs } = await start(database, { run, limits: { concurrency: 2 } }, [2])
  await runner.process(jobs[0]!)
  expect(await database.sql`select state, last_error from destinations`).toEqual([
    { state: 'disabled', last_error: 'second' },
  ])
})

test('a delivery that was begun elsewhere is not what tries a broken destination', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const { runner, jobs } = await start(database, { run: code(() => void (runs += 1)), limits: { concurrency: 1 } }, [1])
  await database.sql`update destinations set state = 'open', open_until = now(), openings = 1`
  await database.sql`update deliveries set attempts = 1`
  await runner.process(jobs[0]!)
  expect(runs).toBe(0)
  expect(await database.sql`select state from destinations`).toEqual([{ state: 'open' }])
})

test('a worker that stops while it has a destination in hand holds up the others for two seconds', async () => {
  await using database = await freshDatabase()
  const { runner, jobs } = await start(database, { run: code(() => {}), limits: { concurrency: 1 } }, [1])
  const { opened: isLocked, open: onLocked } = gate()
  const stopped = database.sql.begin(async (transaction) => {
    await lockDestination(transaction, 'own')
    onLocked()
    return new Promise<never>(() => {})
  })
  const ended = expect(stopped).rejects.toThrow(/idle-in-transaction|CONNECTION_CLOSED/)
  await isLocked
  await runner.process(jobs[0]!)
  expect(await rows(database)).toMatchObject([{ status: 'succeeded' }])
  await ended
})

test('an attempt that began only after a wait for its destination is leased from then on', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const { opened, open } = gate()
  const run = code(() => opened, { timeoutMs: 10_000 })
  const { runner, jobs } = await start(database, { run, limits: { concurrency: 1 } }, [1])
  let processed: Promise<void> | undefined
  const lockedUntil = await sql.begin(async (transaction) => {
    await transaction`select from destinations for update`
    processed = runner.process(jobs[0]!)
    await eventually(async () =>
      expect(
        await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      ).toHaveLength(1),
    )
    const [row] = await transaction<{ at: string }[]>`select clock_timestamp()::text as at`
    return row!.at
  })
  await eventually(async () => expect(runner.running()).toBe(1))
  const [row] = await sql`
    select extract(epoch from lease_until - ${lockedUntil}::text::timestamptz)::float8 as "leasedFor" from deliveries`
  open()
  await processed
  expect(row!.leasedFor).toBeGreaterThan(15)
})

test('an attempt of which Postgres says late that it began is leased for its time limit when it is made', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  let leasedFor = 0
  const run = code(
    async () => {
      leasedFor = (await rows(database))[0]!.leasedFor as number
    },
    { timeoutMs: 1000 },
  )
  const { runner, jobs } = await start(database, { run }, [1])
  await sql.unsafe(`
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(6); return new; end $$;
    create trigger slow before insert on attempts for each row execute function slow()`)
  await runner.process(jobs[0]!)
  expect(leasedFor).toBeGreaterThan(1)
  expect(await rows(database)).toMatchObject([{ status: 'succeeded', attempts: 1 }])
})

test('what cannot begin is due again after a moment, and does not wait until its lease has run out', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const { runner, jobs } = await start(database, { run: code(() => {}), limits: { concurrency: 1 } }, [1])
  await sql`alter table destinations rename to elsewhere`
  await expect(runner.process(jobs[0]!)).rejects.toThrow('destinations')
  const [row] = await rows(database)
  expect(row).toMatchObject({ status: 'pending', attempts: 0, leasedFor: null })
  expect(row!.dueIn).toBeLessThan(1)
})

test('jobs that fail give their turns back', async () => {
  await using database = await freshDatabase()
  const { runner, jobs } = await start(database, { run: code(() => {}), limits: { concurrency: 1 } }, [1, 1, 1, 1])
  await database.sql`alter table destinations rename to elsewhere`
  for (const job of jobs) await expect(runner.process(job)).rejects.toThrow('destinations')
  expect(runner.isFull('own')).toBe(false)
})

test('a row of destinations that was lost, by a restore or a failover, is made again', async () => {
  await using database = await freshDatabase()
  const { runner, jobs } = await start(database, { run: code(() => {}), limits: { concurrency: 1 } }, [1, 1])
  await database.sql`delete from destinations`
  await runner.process(jobs[0]!)
  expect(await rows(database)).toMatchObject([{ status: 'succeeded' }, { status: 'pending' }])
  expect(await database.sql`select handler, limited, window_attempts from destinations`).toEqual([
    { handler: 'own', limited: true, window_attempts: 1 },
  ])
})

test.each([[40], [9000]])(
  'a payload that %i numbers make too long as text is a dead letter, and stops no other',
  async (count) => {
    await using database = await freshDatabase()
    const ran: string[] = []
    const run = code(({ callbackId }: HandledEvent) => void ran.push(callbackId))
    const { runner, jobs } = await start(database, { run }, [3])
    // As an earlier version stored it: 131 KB as text for each number.
    await database.sql`
    update events set payload = (select jsonb_agg('1e131071'::jsonb) from generate_series(1, ${count}))
    where callback_id = '2'`
    await runner.process(jobs[0]!)
    expect(ran.toSorted()).toEqual(['1', '3'])
    expect((await rows(database)).map(({ status }) => status as string)).toEqual(['succeeded', 'dead', 'succeeded'])
    expect(await database.sql`select last_error from deliveries where status = 'dead'`).toEqual([
      { last_error: "the event's payload is more than 4 MiB as text; its bytes are in events.raw" },
    ])
  },
)
