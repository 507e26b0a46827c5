import { randomUUIDv7 } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import { code } from '@ringback/core/handlers'
import { HISTOGRAM_BOUNDS_MS } from '@ringback/core/histogram'
import { createLogger } from '@ringback/core/log'
import { createAttemptCounter } from '../apps/worker/src/count-attempts.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  losingAnswers,
  minutesAgo,
  post,
  postCallbacks,
  startIngest,
  startWorker,
  storeCounts,
  storeOneByOne,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

const forged = (id: number) => aCallback(id, { hash: '0'.repeat(32) })

test('both sides have the same histogram', async () => {
  await using database = await freshDatabase()
  const [row] = await database.sql`
    select
      to_json(histogram_bounds_ms()) as bounds,
      to_json(sum_histograms(counts)) as sum,
      histogram_percentile('{0,0,4,0,0,0,0,0,0,0,0,0,0,0,0,0}', 0.5) as median,
      histogram_percentile('{99,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1}', 0.99) as mostly,
      histogram_percentile('{99,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1}', 0.995) as beyond,
      histogram_percentile('{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}', 0.5) as nothing
    from (values ('{1,2}'::integer[]), ('{10,20}'::integer[])) as v (counts)`
  expect(row).toEqual({
    bounds: HISTOGRAM_BOUNDS_MS,
    sum: [11, 22],
    median: 3.5,
    mostly: 1,
    beyond: 60_000,
    nothing: null,
  })
})

describe('what comes in', () => {
  test('is counted by source and outcome, exactly, with the time to the answer and the refusals in a row', async () => {
    await using database = await freshDatabase()
    {
      await using ingest = await startIngest(database)
      await postCallbacks(ingest, forged(1))
      await postCallbacks(ingest, aCallback(2))
      await postCallbacks(ingest, aCallback(2), aCallback(3))
      await postCallbacks(ingest, forged(4))
      await post(ingest, 'no json')
      await post(ingest, '{}', '/callbacks/nobody')
      await post(ingest, '{}', '/callbacks/voximplant/wrong-token')
    } // what was counted is handed over when ingest ends
    await using _worker = await startWorker(database)
    await eventually(async () => {
      const rows = await database.sql`
        select
          source, sum(requests)::integer as requests, sum(accepted)::integer as accepted, sum(forged)::integer as forged,
          sum(unreadable)::integer as unreadable, sum(unknown_source)::integer as unknown, bool_and(ack_ms_p50 > 0) as timed,
          bool_and(ack_ms_p50 <= ack_ms_p99) as ordered, max(refused_in_a_row_now)::integer as in_a_row,
          bool_and(last_accepted_at > now() - interval '1 minute') as recent
        from source_health where minute > now() - interval '1 hour' group by source order by source`
      const common = { timed: true, ordered: true }
      expect([...rows]).toEqual([
        {
          source: '',
          requests: 2,
          accepted: 0,
          forged: 0,
          unreadable: 0,
          unknown: 2,
          in_a_row: null,
          recent: null,
          ...common,
        },
        {
          source: 'voximplant',
          requests: 5,
          accepted: 2,
          forged: 2,
          unreadable: 1,
          unknown: 0,
          in_a_row: 2,
          recent: true,
          ...common,
        },
      ])
    })
  })

  test('counts that come twice count once', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    const store = storeOneByOne(database)
    const counts = { minute: minutesAgo(1), source: 's', outcomes: { forged: 2 }, ackMs: [2], refusedInARow: 2 }
    const json = JSON.stringify({ ...counts, refusedSince: Date.now(), lastRefusedAt: Date.now() })
    const job = { id: `group-${randomUUIDv7()}`, data: storeJob([{ kind: 'counted', json }]) }
    await Promise.all([store(job), store(job)])
    expect(await sql`select forged from source_minutes`).toEqual([{ forged: 2 }])
    expect(await sql`select refused_in_a_row::integer as n from source_states`).toEqual([{ n: 2 }])
    // What no version of Ringback would send must not keep the queue waiting.
    await store({ id: `group-${randomUUIDv7()}`, data: storeJob([{ kind: 'counted', json: '{"minute":"never"}' }]) })
    expect(await sql`select from source_minutes`).toHaveLength(1)
  })

  test('refusals of several ingests add up, and an acceptance by any of them ends the row', async () => {
    await using database = await freshDatabase()
    const report = (fields: Record<string, unknown>) => storeCounts(database, fields)
    expect(await report({ refusedInARow: 2, refusedSince: 1000 })).toBe(2)
    expect(await report({ refusedInARow: 3, refusedSince: 2000 })).toBe(5)
    expect(await report({ lastAcceptedAt: 5000, refusedInARow: 1, refusedSince: 5001 })).toBe(1)
    expect(await report({ refusedInARow: 9, refusedSince: 4000 })).toBe(1) // before that acceptance, told of late
    expect(await report({ lastAcceptedAt: 4500, refusedInARow: 2, refusedSince: 6000 })).toBe(3)
    expect(await report({ lastAcceptedAt: 5000.5, refusedInARow: 4, refusedSince: 6500 })).toBe(7) // told of late, too
    expect(await report({ lastAcceptedAt: 7000 })).toBe(0)
  })

  test('is counted under its outcome, and every outcome is a request', async () => {
    await using database = await freshDatabase()
    const outcomes = {
      accepted: 1,
      forged: 2,
      unreadable: 4,
      too_large: 8,
      method_not_allowed: 16,
      unknown_source: 32,
      not_durable: 64,
      overloaded: 128,
      client_gone: 256,
    }
    const report = { minute: minutesAgo(1), source: 's', outcomes, ackMs: [511], refusedInARow: 0 }
    await database.sql`select store_counts(${JSON.stringify([report, report])})`
    const columns = Object.keys(outcomes).map((name) => `${name}::integer`)
    const [row] = await database.sql.unsafe(`select requests::integer, ${columns.join()} from source_health`)
    const twice = Object.entries(outcomes).map(([name, count]) => [name, 2 * count])
    expect(row).toEqual({ requests: 1022, ...Object.fromEntries(twice) })
  })

  test('says when a source last accepted and last refused, in whatever order ingests tell of it', async () => {
    await using database = await freshDatabase()
    await storeCounts(database, { lastAcceptedAt: 5000, lastRefusedAt: 6000, refusedInARow: 1, refusedSince: 6000 })
    await storeCounts(database, { lastAcceptedAt: 4000, lastRefusedAt: 3000 })
    await storeCounts(database, {})
    expect(await database.sql`select last_accepted_at, last_refused_at from source_states`).toEqual([
      { last_accepted_at: new Date(5000), last_refused_at: new Date(6000) },
    ])
  })

  test('a request that was counted while a clock was ahead hides neither refusals after it nor their end', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    const report = async (fields: Record<string, unknown>) => {
      const inARow = await storeCounts(database, fields)
      expect(await sql`select from source_states where last_accepted_at > now() or last_refused_at > now()`).toEqual([])
      return inARow
    }
    const tomorrow = minutesAgo(-1440).getTime()
    // Of an ingest. What it reports next is of a second later at least.
    expect(
      await report({ lastAcceptedAt: tomorrow, refusedInARow: 2, refusedSince: tomorrow, lastRefusedAt: tomorrow }),
    ).toBe(2)
    expect(await report({ refusedInARow: 3, refusedSince: Date.now() + 1000, lastRefusedAt: Date.now() })).toBe(5)
    expect(await report({ lastAcceptedAt: Date.now() + 2000 })).toBe(0)
    // Of Postgres itself, and of an ingest beside it.
    for (const [fields, expected] of [
      [{ refusedInARow: 3, refusedSince: Date.now(), lastRefusedAt: Date.now() }, 5],
      [{ lastAcceptedAt: Date.now(), refusedInARow: 1, refusedSince: Date.now(), lastRefusedAt: Date.now() }, 1],
    ] as const) {
      await sql`
        update source_states set
          refused_in_a_row = 2, last_accepted_at = ${new Date(tomorrow)}, last_refused_at = ${new Date(tomorrow)}`
      expect(await report(fields)).toBe(expected)
    }
  })

  test('is kept for 30 days', async () => {
    await using database = await freshDatabase()
    for (const days of [29, 31]) {
      await database.sql`
        insert into source_minutes
        values (now() - ${days} * interval '1 day', 's', 1, 0, 0, 0, 0, 0, 0, 0, 0, '{}')`
      await database.sql`
        insert into delivery_minutes values (now() - ${days} * interval '1 day', 's', 't', 'h', 1, 0, 0, '{}')`
    }
    await using _worker = await startWorker(database)
    for (const table of ['source_minutes', 'delivery_minutes']) {
      await eventually(async () => expect(await database.sql`select from ${database.sql(table)}`).toHaveLength(1))
    }
  })
})

test('what goes out is counted by source, type, handler and minute', async () => {
  await using database = await freshDatabase()
  let failures = 0
  const failTwice = () => {
    if (failures++ < 2) throw new Error('not yet')
  }
  const config = configWith({
    handlers: [
      { name: 'flaky', run: code(failTwice), retry: { firstDelayMs: 100, maxDelayMs: 100 } },
      { name: 'hopeless', run: code(() => Promise.reject(new Error('no'))), retry: { maxAttempts: 1 } },
    ],
  })
  await using ingest = await startIngest(database, { config })
  {
    await using _worker = await startWorker(database, { config })
    await postCallbacks(ingest, aCallback(1))
    await eventually(async () =>
      expect(await database.sql`select from deliveries where status in ('succeeded', 'dead')`).toHaveLength(2),
    )
  } // what was counted is written when the worker ends
  const rows = await database.sql`
    select
      handler, source, type, sum(attempts)::integer as attempts, sum(failures)::integer as failures,
      round(sum(failures) / sum(attempts), 4)::float8 as rate, sum(dead)::integer as dead,
      bool_and(duration_ms_p50 <= duration_ms_p99) as timed, max(consecutive_failures_now) as in_a_row,
      max(oldest_pending_due_at_now) as pending
    from delivery_health where minute > now() - interval '1 hour'
    group by handler, source, type order by handler`
  const common = { source: 'voximplant', type: 'sms_inbound', timed: true, pending: null }
  expect([...rows]).toEqual([
    { handler: 'flaky', attempts: 3, failures: 2, rate: 0.6667, dead: 0, in_a_row: 0, ...common },
    { handler: 'hopeless', attempts: 1, failures: 1, rate: 1, dead: 1, in_a_row: 1, ...common },
  ])
})

test('what goes out says how long the oldest delivery has waited', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await sql`insert into destinations (handler) values ('crm')`
  await sql`
    insert into delivery_minutes (minute, source, type, handler, attempts, failures, dead, duration_ms)
    values (now(), 's', 't', 'crm', 1, 1, 0, '{1}')`
  await sql`
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at)
    select uuidv7(), now(), handler, now() - n * interval '1 minute'
    from (values ('crm', 1), ('crm', 9), ('crm', 5), ('other', 20)) as d (handler, n)`
  expect(
    await sql`
      select extract(minutes from now() - oldest_pending_due_at_now)::integer as minutes
      from delivery_health where minute > now() - interval '1 hour'`,
  ).toEqual([{ minutes: 9 }])
})

test('what could not be written is written later, and counts once', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  let handled = 0
  let failures = 0
  const warn = (_fields: unknown, message: string) => void (failures += message === 'counts.failed' ? 1 : 0)
  const config = configWith({ handlers: [{ name: 'count', run: code(() => void (handled += 1)) }] })
  await using ingest = await startIngest(database, { config })
  {
    const quiet = Object.assign(createLogger('test', 'silent'), { warn })
    await using _worker = await startWorker(database, { config, log: quiet, monitoringIntervalMs: 100 })
    await sql`alter table delivery_minutes rename to elsewhere`
    await postCallbacks(ingest, aCallback(1))
    await eventually(async () => expect(failures).toBeGreaterThan(1))
    await postCallbacks(ingest, aCallback(2))
    await eventually(async () => expect(handled).toBe(2))
    await sql`alter table elsewhere rename to delivery_minutes`
  }
  expect(await sql`select sum(attempts)::integer as attempts from delivery_health`).toEqual([{ attempts: 2 }])
})

describe('attempts that are counted', () => {
  function attempt(handler: string, error?: string, type = 't') {
    const ok = error === undefined
    const next = ok ? ({ kind: 'succeeded' } as const) : ({ kind: 'retry', delayMs: 1 } as const)
    return { source: 's', type, handler, ok, error, durationMs: 2, next }
  }

  const outcomes = ({ sql }: Database) => sql`
    select
      handler, consecutive_failures as failures, last_error as error, last_success_at is not null as worked,
      last_failure_at is not null as failed
    from destinations order by 1`

  test('of a handler without limits say what became of its destination, those that had to wait in their order too', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    const { count, flush } = createAttemptCounter({ sql, limited: new Set(['limited']) })
    for (const error of ['first', undefined, 'second', 'third']) count(attempt('crm', error))
    count(attempt('down', 'first'))
    count(attempt('limited', 'first'))
    await flush()
    expect(await outcomes(database)).toEqual([
      { handler: 'crm', failures: 2, error: 'third', worked: true, failed: true },
      { handler: 'down', failures: 1, error: 'first', worked: false, failed: true },
    ])

    await sql`alter table delivery_minutes rename to elsewhere`
    count(attempt('crm', 'fourth'))
    for (const error of [undefined, 'second']) count(attempt('down', error))
    const flushing = flush()
    count(attempt('crm'))
    count(attempt('down', 'third'))
    await expect(flushing).rejects.toThrow('delivery_minutes')
    await sql`alter table elsewhere rename to delivery_minutes`
    await flush()
    expect(await outcomes(database)).toEqual([
      { handler: 'crm', failures: 0, error: 'fourth', worked: true, failed: true },
      { handler: 'down', failures: 2, error: 'third', worked: true, failed: true },
    ])
    count(attempt('crm', 'fifth'))
    await flush()
    await flush()
    expect((await outcomes(database))[0]).toEqual({
      handler: 'crm',
      failures: 1,
      error: 'fifth',
      worked: true,
      failed: true,
    })
    expect(
      await sql`
        select handler, sum(attempts)::integer as attempts, sum(failures)::integer as failures
        from delivery_minutes group by handler order by 1`,
    ).toMatchObject([
      { handler: 'crm', attempts: 7, failures: 5 },
      { handler: 'down', attempts: 4, failures: 3 },
      { handler: 'limited', attempts: 1, failures: 1 },
    ])
    const [row] = await sql<{ timed: number }[]>`
      select sum(n)::integer as timed from (select unnest(duration_ms) as n from delivery_minutes) as counted`
    expect(row!.timed).toBe(12)
  })

  test('are written whatever the last error says', async () => {
    await using database = await freshDatabase()
    const { count, flush } = createAttemptCounter({ sql: database.sql, limited: new Set() })
    count(attempt('crm', 'no\u0000pe'))
    await flush()
    expect(await outcomes(database)).toMatchObject([{ failures: 1, error: 'no\ufffdpe' }])
  })

  test('count once, also if the answer to their commit was lost', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    let isLost = true
    const { count, flush } = createAttemptCounter({ sql: losingAnswers(sql, () => isLost), limited: new Set() })
    count(attempt('crm', 'first'))
    await expect(flush()).rejects.toThrow('the answer was lost')
    count(attempt('crm', 'second'))
    await expect(flush()).rejects.toThrow('the answer was lost')
    isLost = false
    await flush()
    expect(
      await sql`select sum(attempts)::integer as attempts, sum(failures)::integer as failures from delivery_minutes`,
    ).toEqual([{ attempts: 2, failures: 2 }])
    expect(await outcomes(database)).toMatchObject([{ failures: 2, error: 'second' }])
  })

  test('say when their destination last worked and last failed, each for itself', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    const { count, flush } = createAttemptCounter({ sql, limited: new Set() })
    const times = async (error?: string) => {
      await sql`update destinations set last_success_at = 'epoch', last_failure_at = 'epoch'`
      count(attempt('crm', error))
      await flush()
      const [row] = await sql`
        select last_success_at > 'epoch' as worked_now, last_failure_at > 'epoch' as failed_now from destinations`
      return row
    }
    await times()
    expect(await times()).toEqual({ worked_now: true, failed_now: false })
    expect(await times('no')).toEqual({ worked_now: false, failed_now: true })
  })

  test('are so by minute and type, up to a thousand of both; then without their type, and none is lost', async () => {
    await using database = await freshDatabase()
    let now = Date.parse('2026-01-01T12:00:59.999Z')
    const { count, flush } = createAttemptCounter({ sql: database.sql, limited: new Set() }, () => now)
    count(attempt('crm'))
    now += 1
    for (let type = 0; type < 1100; type++) count(attempt('crm', undefined, `made-up-${type}`))
    await flush()
    expect(
      await database.sql`
        select to_char(minute at time zone 'UTC', 'HH24:MI:SS') as minute, count(*)::integer as rows, sum(attempts)::integer as attempts,
          coalesce(sum(attempts) filter (where type = ''), 0)::integer as "withoutType"
        from delivery_minutes group by 1 order by 1`,
    ).toEqual([
      { minute: '12:00:00', rows: 1, attempts: 1, withoutType: 0 },
      { minute: '12:01:00', rows: 1000, attempts: 1100, withoutType: 101 },
    ])
  })
})
