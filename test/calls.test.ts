import { describe, expect, test } from 'vitest'
import { ALERT_KINDS } from '@ringback/core/alerts'
import { connect } from '@ringback/core/store/connect'
import { DEFAULT_RETENTION } from '@ringback/worker/retention'
import { prune } from '../apps/worker/src/prune.ts'
import { alertsIn, look, noticesIn, storeEventsAt } from './support/alerts.ts'
import { freshDatabase, minutesAgo } from './support/ringback.ts'

describe('the call watch', () => {
  const watching = { alerts: { unendedCallMinutes: 5, disabled: ['store_lagging' as const] } }

  test('tells once of calls that do not end, with examples, and takes it back when they do', async () => {
    await using database = await freshDatabase()
    await storeEventsAt(
      database,
      { at: minutesAgo(9), callId: 'ended', type: 'Ring' },
      { at: minutesAgo(8), callId: 'ended', type: 'Hangup' },
      { at: minutesAgo(40), callId: 'recorded', type: 'Hangup' },
      { at: minutesAgo(8), callId: 'recorded', type: 'RecordStop' },
      { at: minutesAgo(8), type: 'Ring' },
      { at: minutesAgo(8), callId: 'lost', type: 'Ring' },
      { at: minutesAgo(7), callId: 'lost', type: 'StartApp' },
      { at: minutesAgo(1), callId: 'young', type: 'Ring' },
      { at: minutesAgo(8), callId: 'other', source: 'voximplant', type: 'Ring' },
      { at: minutesAgo(7), callId: 'lost', source: 'voximplant', type: 'Hangup' },
    )
    const notWatching = { alerts: { ...watching.alerts, unendedCallMinutes: 0 } }
    await look(database, notWatching)
    expect(await alertsIn(database)).toEqual([])
    // From a day ago in steps of ten minutes, as when the watch has just been switched on.
    for (let step = 0; step < 145; step += 1) await look(database, watching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz open'])
    const [alert] = await database.sql`select key, occurrences::integer as n, details, text from alerts`
    expect(alert).toEqual({
      key: 'calls_unended:vobiz',
      n: 1,
      details: { callIds: ['lost'] },
      text: expect.stringContaining('1 call of the source "vobiz" began more than 5 minutes ago'),
    })
    // A worker that does not watch calls knows nothing of them.
    await look(database, notWatching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz open'])
    await storeEventsAt(database, { at: new Date(), callId: 'lost', type: 'Hangup' })
    await look(database, watching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz resolved'])
    expect(await noticesIn(database)).toEqual(['raised:1 calls_unended', 'resolved:1 calls_unended'])
  })

  test('begins again a day ago if it is ahead of the time', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into call_watches values ('vobiz', now() + interval '2 days')`
    await storeEventsAt(database, { at: minutesAgo(1439), callId: 'lost', type: 'Ring' })
    await look(database, watching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz open'])
  })

  test('follows a call that does not end for a day', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into unended_calls values ('vobiz', 'lost', now() - interval '23 hours')`
    await look(database, watching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz open'])
    await database.sql`update unended_calls set first_event_at = now() - interval '25 hours'`
    await prune(database.sql, DEFAULT_RETENTION)
    await look(database, watching)
    expect(await alertsIn(database)).toEqual(['calls_unended:vobiz resolved'])
  })

  test('follows no more than a thousand calls of a source', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await sql`insert into call_watches values ('vobiz', now() - interval '10 minutes')`
    await sql`insert into unended_calls select 'vobiz', n::text, now() from generate_series(1, 999) as n`
    await storeEventsAt(database, { at: minutesAgo(8), callId: 'a' }, { at: minutesAgo(8), callId: 'b' })
    await look(database, watching)
    expect(await sql`select from unended_calls`).toHaveLength(1000)
  })

  test('reads the events of a call once, however many there are, so that one call cannot end the watch of others', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into call_watches values ('fonestorm', now() - interval '10 minutes')`
    await storeEventsAt(
      database,
      ...Array.from({ length: 500 }, () => ({ at: minutesAgo(8), source: 'fonestorm', callId: 'endless' })),
    )
    const sql = connect(database.url, { max: 1, applicationName: 'one look' })
    const reads = async () => {
      await sql`select pg_stat_force_next_flush()`
      const [row] = await sql<{ count: number }[]>`
        select sum(seq_tup_read + idx_tup_fetch)::float8 as count from pg_stat_user_tables where relname like 'events_2%'`
      return row!.count
    }
    try {
      // So that Postgres looks up one call after the other, as it does where calls have had few events so far.
      await sql.unsafe('set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off')
      const before = await reads()
      await look(
        { ...database, sql },
        { alerts: { ...watching.alerts, disabled: ALERT_KINDS.filter((kind) => kind !== 'calls_unended') } },
      )
      expect(await database.sql`select call_id from unended_calls`).toEqual([{ call_id: 'endless' }])
      expect((await reads()) - before).toBeLessThan(3000)
    } finally {
      await sql.end()
    }
  })

  test('watches a source of which many events come, so many of them at a time', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await sql`insert into call_watches values ('vobiz', now() - interval '14 minutes')`
    await storeEventsAt(database, { at: minutesAgo(8), callId: 'lost' })
    await sql`
      with others as materialized (select uuidv7(-interval '10 minutes') as id from generate_series(1, 50000))
      insert into events (
        id, received_at, source, account_id, callback_id, type, verified_by, occurred_at, payload, raw, method, url, headers
      )
      select id, uuid_extract_timestamp(id), 'vobiz', '', id, 'Ring', 'none', now(), '{}', '', 'POST', '/', '{}' from others`
    const found = () => sql`select call_id from unended_calls`
    await look(database, watching)
    expect(await found()).toEqual([])
    await look(database, watching)
    expect(await found()).toEqual([{ call_id: 'lost' }])
  })

  test('names the calls that began first, by the first event that was found of each', async () => {
    await using database = await freshDatabase()
    const { sql } = database
    await sql`insert into call_watches values ('vobiz', now() - interval '14 minutes')`
    const at = [minutesAgo(13), minutesAgo(11), minutesAgo(6)] as const
    await storeEventsAt(
      database,
      { at: at[1], callId: 'second' },
      { at: at[0], callId: 'first' },
      { at: at[2], callId: 'first' },
    )
    await look(database, watching)
    expect(await sql`select call_id, first_event_at from unended_calls order by first_event_at`).toEqual([
      { call_id: 'first', first_event_at: at[0] },
      { call_id: 'second', first_event_at: at[1] },
    ])
  })

  test('knows an end by a field where the types say nothing', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into call_watches values ('fonestorm', now() - interval '10 minutes')`
    const event = (callId: string, status: string) => {
      const raw = Buffer.from(JSON.stringify({ status })).toString('base64')
      return { at: minutesAgo(8), source: 'fonestorm', type: 'calls/receive_notify', callId, raw }
    }
    await storeEventsAt(database, event('a', 'BEGIN'), event('a', 'END'), event('b', 'BEGIN'))
    await look(database, watching)
    expect(await database.sql`select source, call_id from unended_calls`).toEqual([
      { source: 'fonestorm', call_id: 'b' },
    ])
  })

  test('takes no recording of TeXML for the end of its call, although both are completed', async () => {
    await using database = await freshDatabase()
    await database.sql`insert into call_watches values ('telnyx', now() - interval '10 minutes')`
    const event = (callId: string, type: string, payload: object) => {
      const raw = Buffer.from(JSON.stringify(payload)).toString('base64')
      return { at: minutesAgo(8), source: 'telnyx', type, callId, raw }
    }
    await storeEventsAt(
      database,
      event('texml', 'completed', { CallStatus: 'completed' }),
      event('call control', 'call.hangup', { data: {} }),
      event('recorded', 'completed', { RecordingStatus: 'completed' }),
    )
    await look(database, watching)
    expect(await database.sql`select call_id from unended_calls`).toEqual([{ call_id: 'recorded' }])
  })

  test('knows where a call stands by when things happened, not by when they came', async () => {
    await using database = await freshDatabase()
    const occurredAt = '2026-01-01T12:00:00Z'
    await storeEventsAt(
      database,
      { at: minutesAgo(2), callId: 'c', type: 'Hangup', occurredAt: '2026-01-01T12:00:05Z' },
      { at: minutesAgo(1), callId: 'c', type: 'Ring', occurredAt }, // came again after a failure
    )
    expect(await database.sql`select type from last_event_of_call where call_id = 'c'`).toEqual([{ type: 'Hangup' }])
  })

  test('shows what happened in a call, and how long it took', async () => {
    await using database = await freshDatabase()
    const at = new Date('2026-01-01T12:00:00Z')
    const occurred = (seconds: number) => new Date(at.getTime() + seconds * 1000).toISOString()
    await storeEventsAt(
      database,
      { at, callId: 'c', type: 'Hangup', occurredAt: occurred(65) },
      { at, callId: 'c', type: 'Ring', occurredAt: occurred(0) },
      { at, callId: 'd', type: 'Ring', occurredAt: occurred(9) },
      // Another source's id of another call.
      { at, callId: 'c', type: 'answered', source: 'telnyx', occurredAt: occurred(20) },
    )
    const rows = await database.sql`
      select source, type, gap::text from call_timeline where call_id = 'c' order by source desc, occurred_at`
    expect([...rows]).toEqual([
      { source: 'vobiz', type: 'Ring', gap: null },
      { source: 'vobiz', type: 'Hangup', gap: '00:01:05' },
      { source: 'telnyx', type: 'answered', gap: null },
    ])
  })
})
