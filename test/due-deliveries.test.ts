import { expect, test } from 'vitest'
import type { DeliveriesJob } from '@ringback/core/callback'
import { log as logAction } from '@ringback/core/handlers'
import { buryWithoutHandler } from '../apps/worker/src/bury-without-handler.ts'
import { claimDeliveries } from '../apps/worker/src/deliveries-table.ts'
import type { QueuedDelivery } from '../apps/worker/src/deliveries-table.ts'
import { createScanner } from '../apps/worker/src/due-deliveries.ts'
import type { ScanDependencies } from '../apps/worker/src/due-deliveries.ts'
import { configWith, freshDatabase, groupOf, log, queued, storeOneByOne } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

// What one look of the scanner takes, and what it leaves. That it looks at all is in deliveries.test.ts.

const run = logAction({ message: 'came' })
// One attempt, and two more for those that were abandoned: the third of these is one too many.
const { handlers } = configWith({ handlers: [{ name: 'all', run, retry: { maxAttempts: 1 } }] })

/** Deliveries of one handler, due since `1`, `2`, `3`... seconds: the last the longest. In nobody's hand. */
async function dueDeliveries(database: Database, count: number): Promise<void> {
  const store = storeOneByOne(database, { handlers })
  await store(groupOf(Array.from({ length: count }, (_, index) => queued(String(index + 1)))))
  await database.sql`
    update deliveries as d
    set lease_until = null, next_attempt_at = now() - e.callback_id::integer * interval '1 second'
    from events as e where e.id = d.event_id`
}

function scanner({ sql }: Database, options: Partial<ScanDependencies> = {}) {
  const jobs: DeliveriesJob[] = []
  const dead: string[] = []
  const { scan, finish } = createScanner({
    sql,
    handlers,
    enqueueDeliveries: async (job) => void jobs.push(job),
    runDeliveries: () => Promise.reject(new Error('the queue is there')),
    waitingJobs: async () => 0,
    isFull: () => false,
    onDead: (handler, count) => void dead.push(`${handler} ${count}`),
    log,
    ...options,
  })
  return {
    jobs,
    dead,
    finish,
    scan: async () => {
      const before = jobs.length
      const { more } = await scan()
      return { taken: jobs.slice(before).flatMap(({ deliveries }) => deliveries).length, more }
    },
  }
}

test('what is due is taken once, the oldest first, until half a minute has passed without a word of it', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 251)
  const { scan, jobs } = scanner(database)
  expect(await scan()).toEqual({ taken: 250, more: true })
  expect(await scan()).toEqual({ taken: 1, more: false })
  expect(await scan()).toEqual({ taken: 0, more: false })
  const ids = jobs.flatMap(({ deliveries }) => deliveries.map(({ id }) => id))
  expect(new Set(ids).size).toBe(251)
  expect(jobs[0]).toMatchObject({ handler: 'all' })
  expect(jobs[0]!.deliveries[0]).toMatchObject({ attempt: '1' })
  const [last] = await database.sql`
    select callback_id from events join deliveries on event_id = events.id where deliveries.id = ${ids.at(-1)!}`
  expect(last).toEqual({ callback_id: '1' })
  await database.sql`update deliveries set lease_until = now() - interval '1 second' where id = ${ids[0]!}`
  expect(await scan()).toMatchObject({ taken: 1 })
  const leased = await database.sql`select from deliveries where lease_until > now() + interval '20 seconds'`
  expect(leased).toHaveLength(251)
})

test('a job holds no more of large events than one may be large, so that no backlog of them fills the memory', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 5)
  // The oldest is the last.
  const kib = [1, 2048, 400, 400, 600]
  await database.sql`
    update events set raw = decode(repeat('00', 1024 * (${JSON.stringify(kib)}::json ->> callback_id::integer - 1)::integer), 'hex')`
  const { scan } = scanner(database)
  expect(await scan()).toEqual({ taken: 2, more: true })
  expect(await scan()).toEqual({ taken: 1, more: true })
  expect(await scan()).toEqual({ taken: 1, more: true })
  expect(await scan()).toEqual({ taken: 1, more: false })
})

test('what is not due yet, what is in somebody’s hand and what another scanner is taking is left', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 4)
  const set = (callbackId: string, values: Record<string, unknown>) => database.sql`
    update deliveries set ${database.sql(values)} where event_id = (select id from events where callback_id = ${callbackId})`
  await set('1', { next_attempt_at: new Date(Date.now() + 60_000) })
  await set('2', { lease_until: new Date(Date.now() + 60_000) })
  const { scan, jobs } = scanner(database)
  await database.sql.begin(async (other) => {
    await other`select from deliveries where event_id = (select id from events where callback_id = '3') for update`
    expect(await scan()).toEqual({ taken: 1, more: false })
  })
  expect(jobs).toHaveLength(1)
  const [row] = await database.sql`
    select callback_id from events join deliveries on event_id = events.id where deliveries.id = ${jobs[0]!.deliveries[0]!.id}`
  expect(row).toEqual({ callback_id: '4' })
})

test('what is due for a handler that has as many jobs as it may is run here, one job at a time', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 251)
  const ran: number[] = []
  const { promise: isOver, resolve: end } = Promise.withResolvers<void>()
  const { scan, finish } = scanner(database, {
    isFull: (handler) => handler === 'all',
    runDeliveries({ deliveries }) {
      ran.push(deliveries.length)
      return isOver
    },
  })
  for (let times = 0; times < 3; times++) expect(await scan()).toMatchObject({ taken: 0 })
  expect(ran).toEqual([250])
  end()
  await finish()
  expect(await scan()).toEqual({ taken: 0, more: false })
  expect(ran).toEqual([250, 1])
})

test('nothing is taken while the workers have enough to do', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 1)
  const busy = scanner(database, { waitingJobs: async () => 1001 })
  expect(await busy.scan()).toEqual({ taken: 0, more: false })
  expect(busy.jobs).toEqual([])
  expect(await scanner(database, { waitingJobs: async () => 1000 }).scan()).toMatchObject({ taken: 1 })
})

test.each([
  {
    name: 'the last and not the one too many is made again',
    attempts: 2,
    atReplay: 0,
    outcome: null,
    status: 'pending',
  },
  { name: 'one too many of those not heard of is the end', attempts: 3, atReplay: 0, outcome: null, status: 'dead' },
  { name: 'those before a replay do not count', attempts: 3, atReplay: 2, outcome: null, status: 'pending' },
  { name: 'one that ended is no abandoned one', attempts: 3, atReplay: 0, outcome: 'failed', status: 'pending' },
])('of attempts whose worker was not heard of again, $name', async ({ attempts, atReplay, outcome, status }) => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 1)
  const { sql } = database
  await sql`
    update deliveries
    set attempts = ${attempts}, attempts_at_replay = ${atReplay}, running = true, lease_until = now() - interval '1 second'`
  // The one before was not recorded either, and is left as it is.
  await sql`
    insert into attempts (delivery_id, event_received_at, number, started_at, outcome)
    select id, event_received_at, number, now() - interval '2 minutes', case when number = ${attempts} then ${outcome} end
    from deliveries, generate_series(${attempts - 1}::integer, ${attempts}::integer) as number`
  const { scan, jobs, dead } = scanner(database)
  expect(await scan()).toMatchObject({ taken: status === 'dead' ? 0 : 1 })
  expect(dead).toEqual(status === 'dead' ? ['all 1'] : [])
  expect(jobs.flatMap(({ deliveries }) => deliveries.map(({ attempt }) => attempt))).toEqual(
    status === 'dead' ? [] : [String(attempts + 1)],
  )
  expect(await sql`select status, running, last_error is null as "isFine" from deliveries`).toEqual([
    { status, running: false, isFine: status !== 'dead' },
  ])
  const [before, last] = await sql`select outcome, duration_ms from attempts order by number`
  expect(before).toEqual({ outcome: null, duration_ms: null })
  expect(last!.outcome).toBe(outcome ?? 'abandoned')
  if (outcome === null) expect(last!.duration_ms).toBeGreaterThanOrEqual(120_000)
})

test('what is being recorded at this moment is left, and neither waits for the other', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 2)
  const { sql } = database
  const deliveries = await sql<QueuedDelivery[]>`
    select id, '1' as attempt, event_received_at::text as "receivedAt" from deliveries`
  await claimDeliveries(sql, deliveries, { leaseMs: -1000, isCounted: false, needsRequest: false })
  const { id } = deliveries[0]!
  const { scan, jobs } = scanner(database)
  await sql.begin(async (recording) => {
    await recording`update attempts set outcome = 'succeeded' where delivery_id = ${id}`
    expect(await scan()).toMatchObject({ taken: 1 })
    await recording`
      update deliveries set status = 'succeeded', next_attempt_at = null, lease_until = null, finished_at = now()
      where id = ${id}`
  })
  expect(jobs.flatMap((job) => job.deliveries)).toMatchObject([{ id: deliveries[1]!.id, attempt: '2' }])
  expect(await sql`select outcome from attempts where delivery_id = ${id}`).toEqual([{ outcome: 'succeeded' }])
})

test('a scanner that finds only what is being recorded does not look again at once', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 2)
  const { sql } = database
  // So large that the two make no job together.
  await sql`update events set raw = decode(repeat('00', 1024 * 1024), 'hex')`
  const deliveries = await sql<QueuedDelivery[]>`
    select id, '1' as attempt, event_received_at::text as "receivedAt" from deliveries`
  await claimDeliveries(sql, deliveries, { leaseMs: -1000, isCounted: false, needsRequest: false })
  const { scan } = scanner(database)
  await sql.begin(async (recording) => {
    await recording`select from attempts for update`
    expect(await scan()).toEqual({ taken: 0, more: false })
  })
  expect(await scan()).toEqual({ taken: 1, more: true })
})

test('while the queue takes nothing the scanner runs one job of each handler itself, and waits for none', async () => {
  await using database = await freshDatabase()
  const { handlers: both } = configWith({
    handlers: [
      { name: 'slow', run },
      { name: 'quick', on: { type: 'sms_inbound' }, run },
    ],
  })
  const refuse = () => Promise.reject(new Error('away'))
  const store = storeOneByOne(database, { handlers: both, enqueueDeliveries: refuse })
  const others = Array.from({ length: 599 }, (_, index) => queued(String(index)))
  await store(groupOf([queued('sms', { type: 'sms_inbound' }), ...others]))

  const runs: string[] = []
  let enqueued = 0
  const slow = Promise.withResolvers<void>()
  const { scan, finish } = scanner(database, {
    handlers: both,
    enqueueDeliveries: () => ((enqueued += 1), refuse()),
    runDeliveries({ handler, deliveries }) {
      runs.push(`${handler} ${deliveries.length}`)
      return handler === 'slow' ? slow.promise : Promise.reject(new Error('Postgres is down'))
    },
  })
  expect(await scan()).toMatchObject({ more: true })
  expect(runs.toSorted()).toEqual(['quick 1', 'slow 250'])
  expect(enqueued).toBe(1) // and nothing else had to fail first
  expect(await scan()).toMatchObject({ more: false })
  await database.sql`update deliveries set lease_until = null where handler = 'quick'`
  await scan()
  expect(runs.slice(2)).toEqual(['quick 1'])
  slow.resolve()
  await finish()
  await scan()
  expect(runs.slice(3)).toEqual(['slow 250'])
})

test('what no handler is there for is given ten minutes, and is not taken out of a hand', async () => {
  await using database = await freshDatabase()
  await dueDeliveries(database, 3)
  const { sql } = database
  const since = (callbackId: string, minutes: number, leaseMinutes: number) => sql`
    update deliveries
    set next_attempt_at = now() - ${minutes} * interval '1 minute', lease_until = now() + ${leaseMinutes} * interval '1 minute'
    where event_id = (select id from events where callback_id = ${callbackId})`
  await since('1', 9, -1)
  await since('2', 11, 1)
  await since('3', 11, -1)
  const dead: string[] = []
  const onDead = (handler: string, count: number) => void dead.push(`${handler} ${count}`)
  const { signal } = new AbortController()
  await buryWithoutHandler({ sql, handlers, onDead, log, signal })
  expect(await sql`select from deliveries where status = 'pending'`).toHaveLength(3)
  await buryWithoutHandler({ sql, handlers: [], onDead, log, signal })
  await buryWithoutHandler({ sql, handlers: [], onDead, log, signal })
  expect(dead).toEqual(['all 1'])
  expect(
    await sql`
      select callback_id, finished_at > now() - interval '1 minute' as just, last_error like '%"all"%' as told
      from events join deliveries on event_id = events.id where status = 'dead'`,
  ).toEqual([{ callback_id: '3', just: true, told: true }])
})

test('however much waits for a handler that has gone, it becomes dead letters, with the attempts that nothing was heard of', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at, attempts, running)
    select uuidv7(), now(), 'gone', now() - interval '11 minutes', 1, true from generate_series(1, 12000)`
  await sql`
    insert into attempts (delivery_id, event_received_at, number) select id, event_received_at, 1 from deliveries`
  const dead: number[] = []
  const onDead = (_handler: string, count: number) => void dead.push(count)
  const { signal } = new AbortController()
  const bury = () => buryWithoutHandler({ sql, handlers, onDead, log, signal })
  await sql.begin(async (transaction) => {
    await transaction`select from deliveries limit 1 for update`
    await bury()
  })
  // What somebody else has locked is left to the next time.
  expect(dead).toEqual([5000, 5000, 1999])
  await bury()
  expect(await sql`select status, running, count(*)::integer from deliveries group by 1, 2`).toEqual([
    { status: 'dead', running: false, count: 12_000 },
  ])
  expect(await sql`select outcome, count(*)::integer from attempts group by 1`).toEqual([
    { outcome: 'abandoned', count: 12_000 },
  ])
})
