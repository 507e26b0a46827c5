import { expect, test } from 'vitest'
import { fromDeliveries } from '@ringback/cli/delivery-filter'
import type { DeliveryFilter } from '@ringback/cli/delivery-filter'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import { code, HandlerError } from '@ringback/core/handlers'
import { connect } from '@ringback/core/store/connect'
import { claimDeliveries } from '../apps/worker/src/deliveries-table.ts'
import type { QueuedDelivery } from '../apps/worker/src/deliveries-table.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  groupOf,
  postCallbacks,
  queued,
  startIngest,
  startWorker,
  storeOneByOne,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { runApp, runCli } from './support/processes.ts'

function withHandler(handler: Partial<HandlerDefinition>): Config {
  return configWith({ handlers: [{ name: 'crm', run: code(() => {}), ...handler }] })
}

/** A handler that fails for good, until it is told to work; it counts its runs by the callback. */
function aCountingHandler() {
  const runs = new Map<string, number>()
  const state = { works: false }
  const run = code(({ callbackId }) => {
    runs.set(callbackId, (runs.get(callbackId) ?? 0) + 1)
    if (!state.works) throw new HandlerError('no such customer', { retryable: false })
  })
  return { runs, state, run }
}

/** Receives `count` callbacks, numbered from 1. */
async function receive(database: Database, config: Config, count: number): Promise<void> {
  await using ingest = await startIngest(database, { config })
  const numbers = Array.from({ length: count }, (_, index) => index + 1)
  await postCallbacks(
    ingest,
    ...numbers.map((number) => aCallback(number, { sms: { number, even: number % 2 === 0 } })),
  )
}

async function untilCounted(database: Database, expected: Record<string, number>): Promise<void> {
  await eventually(async () => {
    const rows = await database.sql<{ status: string; count: number }[]>`
      select status, count(*)::integer as count from deliveries group by status`
    expect(Object.fromEntries(rows.map(({ status, count }) => [status, count]))).toEqual(expected)
  })
}

/** Runs `ringback --json` to its end; the values that it printed. */
async function ringback(database: Database, ...args: string[]): Promise<Record<string, unknown>[]> {
  const { code: exitCode, output } = await runCli({ DATABASE_URL: database.url }, '--json', ...args)
  expect(exitCode, output).toBe(0)
  return output
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

test('deliveries are listed by every filter, paged without a gap, and shown with their attempts', async () => {
  await using database = await freshDatabase()
  const { run } = aCountingHandler()
  const config = withHandler({ run })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 7)
  await untilCounted(database, { dead: 7 })

  const list = (...args: string[]) => ringback(database, 'deliveries', 'list', ...args)
  const all = await list()
  expect(all).toHaveLength(7)
  const paged: unknown[] = []
  for (let page = await list('--limit', '5'); page.length > 0;) {
    paged.push(...page)
    if (page.length < 5) break
    page = await list('--limit', '5', '--before', String(page.at(-1)!.id))
  }
  expect(paged).toEqual(all)

  const filtered = await list('--status', 'dead', '--type', 'sms_*', '--since', '1h', '--field', 'sms.number=4')
  expect(filtered).toHaveLength(1)
  const filters: [DeliveryFilter, number][] = [
    [
      { status: ['dead'], handler: 'crm', source: 'voximplant', type: 'sms_*', since: new Date(Date.now() - 60_000) },
      7,
    ],
    [{ status: ['pending', 'succeeded'] }, 0],
    [{ handler: 'other' }, 0],
    [{ source: 'vobiz' }, 0],
    [{ type: 'sms*_out' }, 0],
    [{ since: new Date(Date.now() + 60_000) }, 0],
    [{ until: new Date(Date.now() - 60_000) }, 0],
    [{ error: 'SUCH customer' }, 7],
    [{ error: '%' }, 0],
    [{ field: [{ path: 'sms.even', value: 'true' }] }, 3],
    [
      {
        field: [
          { path: 'sms.even', value: 'true' },
          { path: 'sms.number', value: '4' },
        ],
      },
      1,
    ],
    [{ field: [{ path: 'sms.missing', value: '' }] }, 0],
  ]
  for (const [filter, count] of filters) {
    expect(
      await database.sql`select d.id ${fromDeliveries(database.sql, filter)}`,
      JSON.stringify(filter),
    ).toHaveLength(count)
  }

  const [shown] = await ringback(database, 'deliveries', 'show', String(all[0]!.id))
  expect(shown).toMatchObject({
    id: all[0]!.id,
    handler: 'crm',
    status: 'dead',
    event: { id: all[0]!.eventId, source: 'voximplant', type: 'sms_inbound' },
    runs: [{ number: 1, outcome: 'failed', error: 'no such customer' }],
  })
  const { output } = await runCli({ DATABASE_URL: database.url }, 'deliveries', 'list')
  expect(output).toMatch(/no such customer/)
})

test('a page of deliveries is found without reading all of them, so that the time of a bulk retry grows with their number alone', async () => {
  await using database = await freshDatabase()
  const sql = connect(database.url, { max: 1, applicationName: 'one page' })
  try {
    await sql`
      with made as (
        insert into events (
          id, received_at, source, account_id, callback_id, type, verified_by, occurred_at, method, url, headers, raw, payload
        )
        select id, uuid_extract_timestamp(id), 'vobiz', '', id::text, 'a', 'body', now(), 'POST', '', '{}', '', '{}'
        from (select uuidv7() as id from generate_series(1, 3000)) as ids
        returning id, received_at
      )
      insert into deliveries (event_id, event_received_at, handler, status, finished_at)
      select id, received_at, 'crm', 'dead', now() from made`
    await sql`analyze deliveries, events`
    const reads = async () => {
      await sql`select pg_stat_force_next_flush()`
      const [row] = await sql<{ count: number }[]>`
        select sum(seq_tup_read + idx_tup_fetch)::float8 as count from pg_stat_user_tables where relname ~ '^(events|deliveries)_2'`
      return row!.count
    }
    const before = await reads()
    expect(await sql`select d.id ${fromDeliveries(sql, { handler: 'crm' })} order by d.id limit 200`).toHaveLength(200)
    expect((await reads()) - before).toBeLessThan(1000)
  } finally {
    await sql.end()
  }
})

test('a bulk retry is counted first and changes nothing until --yes; two at once beside a worker run each delivery once', async () => {
  await using database = await freshDatabase()
  const { run, runs, state } = aCountingHandler()
  const config = withHandler({ run })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 150)
  await untilCounted(database, { dead: 150 })

  const [counted] = await ringback(database, 'deliveries', 'retry', '--handler', 'crm')
  expect(counted).toEqual({ dryRun: true, total: 150, byStatus: { dead: 150 }, inHand: 0 })
  await untilCounted(database, { dead: 150 })

  state.works = true
  const args = ['deliveries', 'retry', '--handler', 'crm', '--yes', '--rate', '60']
  const results = await Promise.all([ringback(database, ...args), ringback(database, ...args)])
  await untilCounted(database, { succeeded: 150 })
  const changed = results.map(([result]) => (result!.changed as { dead?: number }).dead ?? 0)
  expect(changed[0]! + changed[1]!).toBe(150)
  expect(new Set(runs.values())).toEqual(new Set([2]))
  expect(await database.sql`select from attempts`).toHaveLength(300)
  expect(await database.sql`select from deliveries where attempts <> 2`).toHaveLength(0)
})

test('a retry that is overtaken by another runs nothing again that the other has run, though it failed again', async () => {
  await using database = await freshDatabase()
  const { run, runs } = aCountingHandler()
  const config = withHandler({ run })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 20)
  await untilCounted(database, { dead: 20 })

  const args = ['--json', 'deliveries', 'retry', '--handler', 'crm', '--yes']
  const attempts = () => database.sql`select from attempts where outcome is not null`
  await using slow = runApp('cli', { DATABASE_URL: database.url }, [...args, '--rate', '1'])
  await eventually(async () => expect((await attempts()).length).toBeGreaterThan(20))
  // Between two deliveries, after each of which it waits for a second: one that it has locked would not be retried.
  await eventually(async () => {
    slow.child.kill('SIGSTOP')
    const [busy] = await database.sql`
      select from pg_stat_activity
      where datname = current_database() and application_name = 'ringback cli' and state <> 'idle'`
    if (busy !== undefined) slow.child.kill('SIGCONT')
    expect(busy).toBe(undefined)
  })
  await untilCounted(database, { dead: 20 })
  const before = (await attempts()).length
  // All 20: those that have failed again by now as well, for this run begins after that.
  await ringback(database, ...args.slice(1))
  await eventually(async () => expect(await attempts()).toHaveLength(before + 20))
  await untilCounted(database, { dead: 20 })
  slow.child.kill('SIGCONT')
  expect(await slow.ended).toBe(0)
  const slowChanged = before - 20
  expect(JSON.parse(slow.output())).toEqual({
    changed: { dead: slowChanged },
    inHand: 20 - slowChanged,
    otherStatus: {},
  })
  await untilCounted(database, { dead: 20 })
  expect([...runs.values()].reduce((sum, count) => sum + count)).toBe(before + 20)
})

test('a retry that was killed is begun again, and one that was stopped goes on after its last: each delivery runs once more', async () => {
  await using database = await freshDatabase()
  const { run, runs, state } = aCountingHandler()
  const config = withHandler({ run })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 120)
  await untilCounted(database, { dead: 120 })
  state.works = true

  const args = ['--json', 'deliveries', 'retry', '--status', 'dead', '--yes']
  const succeeded = () => database.sql`select from deliveries where status = 'succeeded'`
  {
    await using killed = runApp('cli', { DATABASE_URL: database.url }, [...args, '--rate', '20'])
    await eventually(async () => expect((await succeeded()).length).toBeGreaterThan(5))
    killed.child.kill('SIGKILL')
    await killed.ended
  }
  const before = (await database.sql`select from deliveries where status <> 'dead'`).length
  expect(before).toBeLessThan(120)

  await using stopped = runApp('cli', { DATABASE_URL: database.url }, [...args, '--rate', '20'])
  await eventually(async () => expect((await succeeded()).length).toBeGreaterThan(before + 5))
  stopped.child.kill('SIGINT')
  expect(await stopped.ended).toBe(1)
  const { stoppedAfter } = JSON.parse(stopped.output()) as { stoppedAfter: string }
  const rest = (await database.sql`select from deliveries where status = 'dead'`).length
  expect(rest).toBeGreaterThan(0)

  const [result] = await ringback(database, ...args.slice(1), '--after', stoppedAfter)
  expect(result).toEqual({ changed: { dead: rest }, inHand: 0, otherStatus: {} })
  await untilCounted(database, { succeeded: 120 })
  expect(new Set(runs.values())).toEqual(new Set([2]))
})

test('a delivery in the middle of an attempt is left alone by retry and by cancel, and counted', async () => {
  await using database = await freshDatabase()
  const { promise: hanging, resolve: endHanging } = Promise.withResolvers<void>()
  let runs = 0
  const hang = code(() => ((runs += 1), hanging), { timeoutMs: 100_000 })
  const config = withHandler({ run: hang })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 1)
  await eventually(async () => expect(await database.sql`select from attempts`).toHaveLength(1))

  const [{ id }] = (await database.sql`select id from deliveries`) as unknown as [{ id: string }]
  const leftAlone = { changed: {}, inHand: 1, otherStatus: {} }
  expect(await ringback(database, 'deliveries', 'retry', id)).toEqual([leftAlone])
  expect(await ringback(database, 'deliveries', 'cancel', id)).toEqual([leftAlone])
  expect(await ringback(database, 'deliveries', 'cancel', '--handler', 'crm')).toMatchObject([{ total: 1, inHand: 1 }])
  endHanging()
  await untilCounted(database, { succeeded: 1 })
  expect(runs).toBe(1)

  // What has succeeded runs again only on an express word.
  const [ended] = await ringback(database, 'deliveries', 'retry', id)
  expect(ended).toEqual({ changed: {}, inHand: 0, otherStatus: { succeeded: 1 } })
  const [again] = await ringback(database, 'deliveries', 'retry', id, '--status', 'succeeded')
  expect(again).toEqual({ changed: { succeeded: 1 }, inHand: 0, otherStatus: {} })
  await eventually(async () => expect(runs).toBe(2))
  await untilCounted(database, { succeeded: 1 })
})

test('cancel leaves alone what is being recorded at this moment, and ends an attempt that is not heard of again', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const { handlers } = withHandler({})
  await storeOneByOne(database, { handlers })(groupOf([queued('1'), queued('2')]))
  const deliveries = await sql<QueuedDelivery[]>`
    select id, '1' as attempt, event_received_at::text as "receivedAt" from deliveries`
  await claimDeliveries(sql, deliveries, { leaseMs: -1000, isCounted: false, needsRequest: false })
  const { id } = deliveries[0]!
  await sql.begin(async (recording) => {
    await recording`update attempts set outcome = 'succeeded' where delivery_id = ${id}`
    expect(await ringback(database, 'deliveries', 'cancel', id, deliveries[1]!.id)).toEqual([
      { changed: { pending: 1 }, inHand: 1, otherStatus: {} },
    ])
    await recording`
      update deliveries set status = 'succeeded', next_attempt_at = null, lease_until = null, finished_at = now()
      where id = ${id}`
  })
  expect(await sql`select status, outcome from deliveries join attempts on delivery_id = id order by outcome`).toEqual([
    { status: 'canceled', outcome: 'abandoned' },
    { status: 'succeeded', outcome: 'succeeded' },
  ])
})

test('retry makes a pending delivery due now, and cancel ends it for good', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const keys = new Set<string>()
  const fail = code((_event, { idempotencyKey }) => {
    runs += 1
    keys.add(idempotencyKey)
    throw new Error('not yet')
  })
  const config = withHandler({ run: fail, retry: { firstDelayMs: 3_600_000 } })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 3)
  const failed = (count: number) =>
    eventually(async () =>
      expect(await database.sql`select from attempts where outcome = 'failed'`).toHaveLength(count),
    )
  await failed(3)
  const retried = await ringback(database, 'deliveries', 'retry', '--error', 'not yet', '--yes')
  expect(retried).toEqual([{ changed: { pending: 3 }, inHand: 0, otherStatus: {} }])
  await failed(6)
  await untilCounted(database, { pending: 3 })
  // It is no replay: a destination that has done it already must know it again.
  expect(keys.size).toBe(3)

  const [first, second] = await database.sql<{ id: string }[]>`select id from deliveries order by id`
  await ringback(database, 'deliveries', 'cancel', first!.id, second!.id)
  await untilCounted(database, { pending: 1, canceled: 2 })
  // Neither a retry of all that fails nor time brings them back.
  await ringback(database, 'deliveries', 'retry', '--handler', 'crm', '--yes')
  await failed(7)
  expect(runs).toBe(7)
  const [row] = await database.sql`select * from deliveries where id = ${first!.id}`
  expect(row).toMatchObject({ status: 'canceled', next_attempt_at: null, lease_until: null })
  expect(row!.finished_at).toBeInstanceOf(Date)
  expect(await ringback(database, 'deliveries', 'retry', first!.id, '--status', 'canceled')).toMatchObject([
    { changed: { canceled: 1 } },
  ])
  await failed(8)
})

test('a bulk change that fails halfway says where to go on', async () => {
  await using database = await freshDatabase()
  await receive(database, withHandler({}), 2)
  {
    await using _worker = await startWorker(database, { config: withHandler({ run: aCountingHandler().run }) })
    await untilCounted(database, { dead: 2 })
  }
  const [first, second] = await database.sql`select id from deliveries order by id`
  await database.sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
    create trigger refuse before update on deliveries for each row when (old.id = '${second!.id}') execute function refuse()`)
  // By this rate a page has one delivery.
  const args = ['deliveries', 'retry', '--handler', 'crm', '--yes', '--rate', '2']
  expect(await runCli({ DATABASE_URL: database.url }, ...args)).toEqual({
    code: 1,
    output: expect.stringContaining(`Stopped after 1 deliveries; --after ${first!.id} goes on from there`),
  })
  await untilCounted(database, { dead: 1, pending: 1 })
})

test('a bulk change leaves alone what is made after it has begun', async () => {
  await using database = await freshDatabase()
  await receive(database, withHandler({}), 2)
  {
    await using _worker = await startWorker(database, { config: withHandler({ run: aCountingHandler().run }) })
    await untilCounted(database, { dead: 2 })
  }
  await database.sql`
    update deliveries set created_at = now() + interval '1 hour' where id = (select max(id::text)::uuid from deliveries)`
  expect(await ringback(database, 'deliveries', 'retry', '--handler', 'crm', '--yes')).toMatchObject([
    { changed: { dead: 1 } },
  ])
  await untilCounted(database, { dead: 1, pending: 1 })
})

test('a destination is disabled and gets nothing, then enabled and gets what waited', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const config = withHandler({ run: code(() => void (runs += 1)), limits: {} })
  await using _worker = await startWorker(database, { config })
  await ringback(database, 'destinations', 'disable', 'crm')
  await receive(database, config, 3)
  const list = () => ringback(database, 'destinations', 'list')
  await eventually(async () =>
    expect(await list()).toMatchObject([{ handler: 'crm', state: 'disabled', pending: 3, due: 0 }]),
  )
  expect(runs).toBe(0)

  const [enabled] = await ringback(database, 'destinations', 'enable', 'crm')
  expect(enabled).toEqual({ handler: 'crm', was: 'disabled', madeDue: 3 })
  await untilCounted(database, { succeeded: 3 })
  expect(runs).toBe(3)
  expect(await list()).toMatchObject([{ handler: 'crm', state: 'closed', consecutiveFailures: 0, pending: 0 }])
  const { output } = await runCli({ DATABASE_URL: database.url }, 'destinations', 'list')
  expect(output).toMatch(/^crm +closed/m)
})

test('enabling makes what waits due once: what fails again has its turn when its retry policy says', async () => {
  await using database = await freshDatabase()
  let runs = 0
  const run = code(() => {
    runs += 1
    throw new Error('still down')
  })
  const config = withHandler({ run, retry: { firstDelayMs: 3_600_000 }, limits: {} })
  await using _worker = await startWorker(database, { config })
  await ringback(database, 'destinations', 'disable', 'crm')
  await receive(database, config, 3)
  await eventually(async () =>
    expect(await ringback(database, 'destinations', 'list')).toMatchObject([{ pending: 3, due: 0 }]),
  )
  expect(await ringback(database, 'destinations', 'enable', 'crm')).toMatchObject([{ madeDue: 3 }])
  await eventually(async () => expect(runs).toBe(3))
})

test('what waits for a handler is listed, though it has never had an attempt', async () => {
  await using database = await freshDatabase()
  await database.sql`
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at)
    values (uuidv7(), now(), 'crm', now()), (uuidv7(), now(), 'crm', now() + interval '1 hour')`
  expect(await ringback(database, 'destinations', 'list')).toMatchObject([
    { handler: 'crm', state: null, pending: 2, due: 1, lastError: null },
  ])
})

test('enabling closes a breaker that is open, and what waited for it is delivered at once', async () => {
  await using database = await freshDatabase()
  const state = { works: false }
  const run = code(() => {
    if (!state.works) throw new Error('down')
  })
  const breaker = { failureShare: 0.5, minAttempts: 3, windowMs: 60_000, openMs: 3_600_000 }
  const config = withHandler({ run, retry: { firstDelayMs: 3_600_000 }, limits: { breaker } })
  await using _worker = await startWorker(database, { config })
  await receive(database, config, 5)
  await eventually(async () =>
    expect(await ringback(database, 'destinations', 'list')).toMatchObject([
      { state: 'open', consecutiveFailures: 5, pending: 5, due: 0, lastError: 'down' },
    ]),
  )
  state.works = true
  expect(await ringback(database, 'destinations', 'enable', 'crm')).toMatchObject([{ was: 'open', madeDue: 5 }])
  await untilCounted(database, { succeeded: 5 })
  expect(await database.sql`select state, openings from destinations`).toEqual([{ state: 'closed', openings: 0 }])
})

test('a handler without limits cannot be disabled, though its attempts are counted, nor one that has lost them', async () => {
  await using database = await freshDatabase()
  const disable = () => runCli({ DATABASE_URL: database.url }, 'destinations', 'disable', 'crm')
  const unlimited = withHandler({})
  {
    await using _worker = await startWorker(database, { config: unlimited, monitoringIntervalMs: 50 })
    await receive(database, unlimited, 1)
    await eventually(async () =>
      expect(await ringback(database, 'destinations', 'list')).toMatchObject([
        {
          handler: 'crm',
          state: null,
          since: null,
          consecutiveFailures: 0,
          lastSuccessAt: expect.any(String) as string,
        },
      ]),
    )
    expect(await disable()).toMatchObject({
      code: 1,
      output: expect.stringMatching(/No handler "crm" has a state here; these have: none.*limits: {}/) as string,
    })
  }
  {
    await using _worker = await startWorker(database, { config: withHandler({ limits: {} }) })
    expect(await disable()).toMatchObject({ code: 0 })
  }
  await using _worker = await startWorker(database, { config: unlimited })
  expect(await ringback(database, 'destinations', 'list')).toMatchObject([{ handler: 'crm', state: null }])
  expect(await disable()).toMatchObject({ code: 1 })
})

test.each([
  [['deliveries', 'retry'], /Name ids, or say which by --source/],
  [['deliveries', 'retry', 'x'], /"x" is no id/],
  [
    ['deliveries', 'retry', '01a20100-2034-72e6-8f19-104d6f900fe4'],
    /There is no delivery 01a20100.*nothing was changed/,
  ],
  [['deliveries', 'retry', '01a20100-2034-72e6-8f19-104d6f900fe4', '--handler', 'x'], /not both/],
  [['deliveries', 'cancel', '--status', 'succeeded'], /succeeded cannot be canceled/],
  [['deliveries', 'list', '--status', 'lost'], /Allowed choices are pending, succeeded, dead, canceled/],
  [['deliveries', 'list', '--field', 'x'], /must be path=value/],
  [['deliveries', 'show', '01a20100-2034-72e6-8f19-104d6f900fe4'], /There is no delivery/],
  [['destinations', 'enable', 'crm'], /No handler "crm" has a state here; these have: none.*limits: {}/],
])('%j ends with an error that says what to do', async (args, message) => {
  await using database = await freshDatabase()
  const { code: exitCode, output } = await runCli({ DATABASE_URL: database.url }, ...args)
  expect(output).toMatch(message)
  expect(output).not.toMatch(/ {4}at /)
  expect(exitCode).toBe(1)
})
