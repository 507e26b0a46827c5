import crypto, { randomUUIDv7 } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { storeJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import { code } from '@ringback/core/handlers'
import type { HandledEvent } from '@ringback/core/handlers'
import { createLogger } from '@ringback/core/log'
import { createProducer } from '@ringback/core/queue'
import { createEvaluateAlerts } from '@ringback/worker/evaluate-alerts'
import { alertsIn, look, noticesIn, sources, storeEventsAt } from './support/alerts.ts'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  groupOf,
  idAt,
  log,
  losingAnswers,
  minutesAgo,
  postCallbacks,
  startIngest,
  startWorker,
  storeCounts,
  storeOneByOne,
} from './support/ringback.ts'

/** So that a test waits no longer than it must; in production this is 5 s and 10 s. */
const often = { monitoringIntervalMs: 100 }

const forged = (id: number) => aCallback(id, { hash: '0'.repeat(32) })

describe('alerts', () => {
  /** A handler that fails while it is told to, and one that collects the alerts. */
  function withCollector({ hasLimits = true } = {}) {
    const state = { isDown: true, handled: 0, notices: [] as string[] }
    const act = () => {
      state.handled += 1
      if (state.isDown) throw new Error('down')
    }
    const collect = ({ type, payload }: HandledEvent) => {
      const { subject, occurrences } = payload as { subject: string; occurrences: number }
      state.notices.push(`${type} ${subject} ${occurrences}`)
    }
    const config = configWith({
      alerts: { disabled: ['dead_letters'] },
      handlers: [
        { name: 'crm', run: code(act), retry: { maxAttempts: 1 }, ...(hasLimits && { limits: { breaker: false } }) },
        { name: 'tell', on: { source: 'ringback' }, run: code(collect) },
      ],
    })
    return { state, config }
  }

  test.each([
    ['with limits', true],
    ['without limits', false],
  ])(
    'of a destination %s: raised once at 3 failures with what is wrong, told of again at 10, resolved once, by two workers',
    async (_which, hasLimits) => {
      await using database = await freshDatabase()
      const { state, config } = withCollector({ hasLimits })
      await using ingest = await startIngest(database, { config })
      await using _first = await startWorker(database, { config, ...often })
      await using _second = await startWorker(database, { config, ...often })
      const receive = async (from: number, to: number) => {
        for (let id = from; id <= to; id += 1) await postCallbacks(ingest, aCallback(id))
        await eventually(async () => expect(state.handled).toBe(to))
      }
      const told = (...notices: string[]) => eventually(async () => expect(state.notices).toEqual(notices))

      await receive(1, 3)
      await told('alert.raised crm 3')
      await receive(4, 10)
      await told('alert.raised crm 3', 'alert.reminded crm 10')
      await receive(11, 12)
      state.isDown = false
      await receive(13, 13)
      await told(
        'alert.raised crm 3',
        'alert.reminded crm 10',
        expect.stringMatching(/^alert.resolved crm 1[0-2]$/) as string,
      )
      expect(await alertsIn(database)).toEqual(['destination_failing:crm resolved'])
      expect([...(await database.sql`select details ->> 'lastError' as error from alerts`)]).toEqual([
        { error: 'down' },
      ])
      expect(await noticesIn(database)).toEqual([
        'raised:1 destination_failing',
        'reminded:10 destination_failing',
        'resolved:1 destination_failing',
      ])
    },
  )

  test('that cannot be delivered make no alerts', async () => {
    await using database = await freshDatabase()
    const fail = code(() => Promise.reject(new Error('no')))
    const soon = { firstDelayMs: 100, maxDelayMs: 100, maxAttempts: 3 }
    const config: Config = configWith({
      handlers: [
        { name: 'crm', run: fail, retry: soon },
        { name: 'tell', on: { source: 'ringback' }, run: fail, retry: soon },
        {
          name: 'tell-too',
          on: { source: ['voximplant', 'ringback'] },
          run: fail,
          retry: soon,
          limits: { breaker: {} as never },
        },
      ],
    })
    await using ingest = await startIngest(database, { config })
    await using _worker = await startWorker(database, { config, ...often })
    await postCallbacks(ingest, aCallback(1))
    const dead = () => database.sql<{ at: Date }[]>`
      select d.finished_at as at from deliveries d join events e on e.id = d.event_id
      where e.source = 'ringback' and d.status = 'dead' order by 1 desc`
    await eventually(async () => expect(await dead()).toHaveLength(6))
    const [last] = await dead()
    await eventually(async () =>
      expect(await database.sql`select from alerts where last_seen_at > ${last!.at}`).toHaveLength(3),
    )
    expect((await alertsIn(database)).toSorted()).toEqual([
      'dead_letters:crm open',
      'dead_letters:tell-too open', // of the event that was none of ours
      'destination_failing:crm open',
    ])
  })

  test('is told of by a worker whose clock is wrong, at the time of the database', async () => {
    await using database = await freshDatabase()
    await storeCounts(database, { refusedInARow: 3 })
    const then = idAt('2001-01-01T00:00:00Z') as crypto.UUID
    const id = vi.spyOn(crypto, 'randomUUIDv7').mockReturnValue(then)
    syncBuiltinESMExports()
    onTestFinished(() => {
      id.mockRestore()
      syncBuiltinESMExports()
    })
    await look(database)
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz open'])
    expect(
      await database.sql`select type from events where received_at between now() - interval '1 minute' and now()`,
    ).toEqual([{ type: 'alert.raised' }])
  })

  test('of a source that refuses what comes are resolved by the first request that it accepts', async () => {
    await using database = await freshDatabase()
    await using ingest = await startIngest(database, { countsIntervalMs: 50 })
    await using _worker = await startWorker(database, often)
    for (const id of [1, 2, 3]) await postCallbacks(ingest, forged(id))
    await eventually(async () => expect(await alertsIn(database)).toEqual(['source_refusing:voximplant open']))
    await postCallbacks(ingest, aCallback(4))
    await eventually(async () => expect(await alertsIn(database)).toEqual(['source_refusing:voximplant resolved']))
  })

  test('of refusals are not resolved by an acceptance before them of which another ingest tells late', async () => {
    await using database = await freshDatabase()
    const report = async (fields: Record<string, unknown>) => {
      await storeCounts(database, fields)
      await look(database)
    }
    await report({ refusedInARow: 5, refusedSince: 2000, lastRefusedAt: 3000 })
    await report({ lastAcceptedAt: 1000, refusedInARow: 1, refusedSince: 1500, lastRefusedAt: 1500 })
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz open'])
    expect(await database.sql`select refused_in_a_row::integer as n, refused_since as at from source_states`).toEqual([
      { n: 6, at: new Date(1500) },
    ])
    await report({ lastAcceptedAt: 3001 })
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz resolved'])
  })

  test('of a kind that is disabled are not raised', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into source_states (source, refused_in_a_row) values ('vobiz', 3), ('removed', 3)`
    await look(database, { alerts: { disabled: ['source_refusing'] } })
    expect(await alertsIn(database)).toEqual([])
    await look(database, { alerts: { consecutiveFailures: 4 } })
    expect(await alertsIn(database)).toEqual([])
    await look(database)
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz open'])
  })

  test('of a handler, a source or a kind that only some workers have are raised and resolved once, by those; or when they have gone', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await sql`insert into destinations (handler, consecutive_failures) values ('crm', 3), ('old', 3)`
    await sql`insert into source_states (source, refused_in_a_row) values ('vobiz', 3), ('telnyx', 3)`
    await sql`insert into queue_losses (detected_at, detected_by, description) values (now(), 'w', 'began empty')`
    const crm = { name: 'crm', run: code(() => {}) }
    const { vobiz: _removed, ...fewer } = sources
    const before = () => look(database, { handlers: [crm, { ...crm, name: 'old' }] })
    const after = () => look(database, { handlers: [crm], sources: fewer, alerts: { disabled: ['queue_data_lost'] } })
    const raised = [
      'raised:1 destination_failing',
      'raised:1 destination_failing',
      'raised:1 queue_data_lost',
      'raised:1 source_refusing',
      'raised:1 source_refusing',
    ]
    for (const each of [before, after, before, after]) await each()
    expect((await noticesIn(database)).toSorted()).toEqual(raised)

    await sql`update destinations set consecutive_failures = 0`
    await after()
    expect((await noticesIn(database)).slice(raised.length)).toEqual(['resolved:1 destination_failing'])
    await before()
    expect((await noticesIn(database)).slice(raised.length)).toEqual(Array(2).fill('resolved:1 destination_failing'))

    await sql`update alerts set last_seen_at = now() - interval '61 seconds'`
    await after()
    expect(await alertsIn(database)).toEqual([
      'destination_failing:crm resolved',
      'destination_failing:old resolved',
      'queue_data_lost: resolved',
      'source_refusing:telnyx open',
      'source_refusing:vobiz resolved',
    ])
  })

  test('say what is wrong as it is now, that it still is or is over, and since when', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await sql`insert into source_states (source, refused_in_a_row) values ('vobiz', 3)`
    await look(database)
    await sql`update source_states set refused_in_a_row = 12`
    await look(database)
    await sql`update source_states set refused_in_a_row = 0`
    await look(database)
    const [alert] = await sql<{ text: string; at: Date }[]>`select text, raised_at as at from alerts`
    const text = '12 requests to the source "vobiz" were refused in a row'
    expect(alert!.text).toBe(text)
    const told = await sql<{ payload: Record<string, unknown> }[]>`select payload from events order by id`
    const common = { subject: 'vobiz', raised_at: alert!.at.toISOString() }
    expect(told.map(({ payload }) => payload)).toMatchObject([
      { ...common, occurrences: 3, text: '3 requests to the source "vobiz" were refused in a row' },
      { ...common, occurrences: 12, text: `Still: ${text}` },
      { ...common, occurrences: 12, text: `Over: ${text}` },
    ])
  })

  test('are no events where no handler asks for them', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into source_states (source, refused_in_a_row) values ('vobiz', 3)`
    const config = configWith({ sources, handlers: [{ name: 'all', run: code(() => {}) }] })
    await createEvaluateAlerts({ sql: database.sql, config, queueAgeMs: async () => 0, log })()
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz open'])
    expect(await noticesIn(database)).toEqual([])
  })

  test('are logged, also if the answer to the commit that raises them is lost', async () => {
    await using database = await freshDatabase()
    const lines: string[] = []
    const telling = createLogger('test', 'error', { write: (line) => void lines.push(line) })
    const sql = losingAnswers(database.sql)
    const config = configWith()
    const evaluate = createEvaluateAlerts({ sql, config, queueAgeMs: async () => 60_000, log: telling })
    await expect(evaluate()).rejects.toThrow('the answer was lost')
    expect(await alertsIn(database)).toEqual(['store_lagging: open'])
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      expect.objectContaining({ msg: 'alert.raised', kind: 'store_lagging' }),
    ])
  })

  test('of what cannot be looked at stay as they are, and the others are looked for', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into source_states (source, refused_in_a_row) values ('vobiz', 3)`
    await look(database)
    await database.sql`alter table source_states rename to elsewhere`
    await database.sql`insert into destinations (handler, state) values ('crm', 'open')`
    const handlers = [{ name: 'crm', run: code(() => {}) }]
    await look(database, { handlers })
    expect(await alertsIn(database)).toEqual(['source_refusing:vobiz open', 'destination_open:crm open'])
  })

  test('of a breaker that opened and of a destination that is disabled last until it is closed', async () => {
    await using database = await freshDatabase()
    const handlers = [{ name: 'crm', run: code(() => {}) }]
    const states = { open: 'open', half_open: 'open', disabled: 'resolved', closed: 'resolved' }
    await database.sql`insert into destinations (handler) values ('crm')`
    for (const [state, expected] of Object.entries(states)) {
      await database.sql`update destinations set state = ${state}`
      await look(database, { handlers })
      expect(await alertsIn(database)).toContain(`destination_open:crm ${expected}`)
    }
    expect(await alertsIn(database)).toEqual(['destination_open:crm resolved', 'destination_disabled:crm resolved'])
  })

  test('of the state of a destination are not raised where the handler has no limits, for nothing waits', async () => {
    await using database = await freshDatabase()
    const handlers = [{ name: 'crm', run: code(() => {}) }]
    await database.sql`insert into destinations (handler, state, limited) values ('crm', 'disabled', false)`
    await look(database, { handlers })
    expect(await alertsIn(database)).toEqual([])
  })

  test('of dead letters are resolved when there are none of the last hour', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await storeEventsAt(database, { at: minutesAgo(1), type: 'first' }, { at: minutesAgo(2), type: 'last' })
    await sql`
      insert into deliveries (event_id, event_received_at, handler, status, finished_at, last_error)
      select id, received_at, 'crm', 'dead', case type when 'last' then now() else now() - interval '1 minute' end, type
      from events`
    await look(database, { alerts: { disabled: ['store_lagging'] } })
    const [alert] =
      await sql`select key, state, occurrences::integer as n, details ->> 'lastError' as error from alerts`
    expect(alert).toEqual({ key: 'dead_letters:crm', state: 'open', n: 2, error: 'last' })
    await sql`update deliveries set finished_at = now() - interval '61 minutes'`
    await look(database, { alerts: { disabled: ['store_lagging'] } })
    expect(await alertsIn(database)).toEqual(['dead_letters:crm resolved'])
  })

  test('of callbacks that wait too long, and of a quarantine that fills, overlook what a clock that is ahead has dated', async () => {
    await using database = await freshDatabase()
    const tomorrow = minutesAgo(-1440)
    await storeEventsAt(database, ...Array.from({ length: 100 }, () => ({ at: tomorrow })), { at: minutesAgo(4) })
    const refusals = Array.from({ length: 101 }, () => {
      const request = { method: 'POST', url: '/', headers: {}, body: '' }
      return { id: idAt(tomorrow.toISOString()), source: 'vobiz', reason: 'r', scope: 'request' as const, ...request }
    })
    await storeOneByOne(database)(groupOf([], refusals))
    await look(database)
    expect(await alertsIn(database)).toEqual(['store_lagging: open'])
  })

  test('of dead letters stay open though another handler has had a thousand since', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    const bury = (handler: string, count: number) => sql`
      insert into deliveries (event_id, event_received_at, handler, status, finished_at)
      select uuidv7(), now(), ${handler}, 'dead', clock_timestamp() from generate_series(1, ${count}::integer)`
    await bury('crm', 1)
    await look(database)
    await bury('billing', 1000)
    await look(database)
    expect(await alertsIn(database)).toEqual(['dead_letters:crm open', 'dead_letters:billing open'])
  })

  test('of dead letters are raised though another handler has had a thousand since', async () => {
    await using database = await freshDatabase()
    await database.sql`
      insert into deliveries (event_id, event_received_at, handler, status, finished_at)
      select uuidv7(), now(), case when n = 0 then 'crm' else 'billing' end, 'dead', now() + n * interval '1 microsecond'
      from generate_series(0, 1000) as n`
    await look(database, { handlers: [{ name: 'crm', run: code(() => {}) }] })
    expect(await alertsIn(database)).toEqual(['dead_letters:billing open', 'dead_letters:crm open'])
  })

  test('of callbacks that wait too long, and of a quarantine that fills', async () => {
    await using database = await freshDatabase()
    await storeEventsAt(database, ...Array.from({ length: 100 }, () => ({ at: minutesAgo(60) })))
    await database.sql`update events set stored_at = received_at`
    await storeEventsAt(database, { at: minutesAgo(4) })
    await database.sql`insert into quarantine_dropped (source, reason, count) values ('vobiz', 'too_large', 101)`
    await look(database)
    expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz open', 'store_lagging: open'])
    await database.sql`update events set stored_at = now() - interval '2 minutes'`
    await database.sql`update quarantine_dropped set recorded_at = now() - interval '6 minutes'`
    await look(database)
    expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz resolved', 'store_lagging: resolved'])
  })

  test('of a quarantine that fills count what is kept there too, of each source by itself', async () => {
    await using database = await freshDatabase()
    await database.sql`
      insert into quarantine (id, source, reason, received_at, method, url, headers, body)
      select uuidv7(), source, 'r', now(), 'POST', '/', '{}', ''
      from (values ('vobiz', 60), ('fonestorm', 100)) as refused (source, count), generate_series(1, count)`
    await database.sql`insert into quarantine_dropped (source, reason, count) values ('vobiz', 'too_large', 41)`
    await look(database)
    expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz open'])
    await database.sql`update quarantine set received_at = now() - interval '6 minutes'`
    await look(database)
    expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz resolved'])
  })

  test('of a quarantine that fills at a rate about the limit is raised once, and resolved when that has halved', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into quarantine_dropped (source, reason, count) values ('vobiz', 'too_large', 101)`
    for (const count of [101, 100, 102, 51]) {
      await database.sql`update quarantine_dropped set count = ${count}`
      await look(database)
      expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz open'])
    }
    for (const count of [50, 100]) {
      await database.sql`update quarantine_dropped set count = ${count}`
      await look(database)
      expect(await alertsIn(database)).toEqual(['quarantine_filling:vobiz resolved'])
    }
  })

  test('of callbacks that nobody takes from the queue', async () => {
    await using database = await freshDatabase()
    await using ingest = await startIngest(database)
    await postCallbacks(ingest, aCallback(1))
    const queue = createProducer(database.queue, 'store', { timeoutMs: 2000, log })
    await eventually(async () => {
      await look(database, { alerts: { storeLagSeconds: 1 } }, async () => (await queue.state()).oldestAgeMs)
      expect(await alertsIn(database)).toEqual(['store_lagging: open'])
    })
    await queue.close()
  })

  test('of callbacks that nobody takes go by the oldest of them', async () => {
    await using database = await freshDatabase()
    const queue = createProducer(database.queue, 'store', { timeoutMs: 2000, log })
    const add = () => queue.add(`group-${randomUUIDv7()}`, storeJob([]))
    const age = async () => (await queue.state()).oldestAgeMs
    const deliveries = createProducer(database.queue, 'deliveries', { timeoutMs: 2000, log })
    await deliveries.add('deliveries-1', {})
    await deliveries.close()
    expect(await age()).toBe(0)
    await add()
    await eventually(async () => expect(await age()).toBeGreaterThan(500))
    await add()
    await add()
    expect(await age()).toBeGreaterThan(500)
    await queue.close()
  })
})
