import { randomUUIDv7 } from 'node:crypto'
import { expect, test } from 'vitest'
import { queuedCallback, storeJob } from '@ringback/core/callback'
import { log as logAction } from '@ringback/core/handlers'
import type { Sample } from '@ringback/core/providers/provider'
import { everySource, sampleRequest, samplesOf } from './support/every-source.ts'
import { configWith, freshDatabase, idAt, storeOneByOne } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { recipes } from './support/sql-book.ts'

const config = everySource()
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Noon, so that hours before and after it are of one day. */
const NOON = new Date(new Date().setUTCHours(12, 0, 0, 0) - DAY_MS)
const CALL = '8a5d0d2c-0000-4000-8000-000000000001'

/** What the provider sends, read by its preset as ingest reads it, and stored by the worker as received then. */
async function receive(
  database: Database,
  preset: string,
  event: string,
  {
    at = new Date(),
    occurredAt = at,
    fields = {},
  }: { at?: Date; occurredAt?: Date; fields?: Record<string, unknown> } = {},
): Promise<void> {
  const source = config.sources.get(preset)!
  const sample = structuredClone(samplesOf(source)[event]!) as Sample & { form?: object; json?: object }
  Object.assign((sample.form ?? sample.json)!, fields)
  const { headers, ...request } = sampleRequest(config, preset, sample)
  const reading = source.read({
    ...request,
    header: (name) => headers[Object.keys(headers).find((key) => key.toLowerCase() === name) ?? ''],
    remoteAddress: undefined,
    receivedAt: new Date(),
  })
  if (reading.kind !== 'read' || reading.callbacks[0]?.kind !== 'genuine') throw new Error(`${preset} refuses ${event}`)
  const queued = queuedCallback(reading.callbacks[0], {
    source: preset.split('-')[0]!,
    method: 'POST',
    url: '/',
    headers: {},
  })
  const json = JSON.stringify({ ...queued, id: idAt(at.toISOString()), occurredAt: occurredAt.toISOString() })
  const { handlers } = configWith({ handlers: [{ name: 'crm', run: logAction({ message: 'came' }) }] })
  const store = storeOneByOne(database, { handlers })
  await store({ id: `group-${randomUUIDv7()}`, data: storeJob([{ kind: 'callbacks', json }]) })
}

test('what was released from quarantine belongs to the day and the hour when it came', async () => {
  await using database = await freshDatabase()
  const book = await recipes()
  const ask = (title: string) => database.sql.unsafe(book.find((one) => one.title === title)!.query)
  const late = (fields: Record<string, unknown> = {}) => ({ occurredAt: NOON, fields })
  const [voximplant, twilio] = ['voximplant', 'twilio'].map((prefix) =>
    [...config.sources.keys()].find((name) => name.startsWith(prefix)),
  )
  await receive(database, voximplant!, 'min_balance', late())
  await receive(database, 'vobiz-voice', 'Hangup', late())
  await receive(database, twilio!, 'call.status', late({ CallStatus: 'busy' }))
  await receive(database, twilio!, 'message.status', late({ MessageStatus: 'delivered' }))
  const day = NOON.toISOString().slice(0, 10)
  expect((await ask('Low-balance history'))[0]!.occurred_at).toEqual(NOON)
  expect((await ask('Spend per day'))[0]!.day).toEqual(new Date(day))
  expect((await ask('Unanswered calls per hour'))[0]!.hour).toEqual(NOON)
  expect((await ask('SMS delivery rate'))[0]!.day).toEqual(new Date(day))
})

const START = Date.now()
const ago = (ms: number) => new Date(START - ms)

test('each recipe of docs/sql.md returns what its heading says', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const book = await recipes()
  const ask = async (title: string): Promise<Record<string, unknown>[]> => {
    const recipe = book.find((one) => one.title === title)
    expect(recipe, title).toBeDefined()
    asked.add(title)
    return [...(await sql.unsafe(recipe!.query))]
  }
  const asked = new Set<string>()
  const form = (fields: Record<string, unknown>, at?: Date) => ({ fields, ...(at && { at }) })

  const named = (prefix: string) => [...config.sources.keys()].find((name) => name.startsWith(prefix))!
  const voximplant = named('voximplant')
  const twilio = named('twilio')
  await receive(database, voximplant, 'min_balance', { fields: { callback_id: 1001, balance: 4.99, currency: 'USD' } })
  await receive(database, voximplant, 'min_balance', { fields: { callback_id: 1001, balance: 9, currency: 'USD' } })
  await receive(database, voximplant, 'min_balance', { fields: { callback_id: 1001, balance: 4.99, currency: 'USD' } })
  await receive(database, 'vobiz-voice', 'StartApp', form({ CallUUID: CALL }, ago(3 * HOUR_MS)))
  await receive(database, 'vobiz-voice', 'Ring', form({ CallUUID: CALL }, ago(3 * HOUR_MS - 4000)))
  await receive(database, 'vobiz-voice', 'Hangup', form({ CallUUID: CALL }, ago(2.5 * HOUR_MS)))
  await receive(database, 'vobiz-voice', 'StartApp', form({ CallUUID: 'lost', To: '910000000009' }, ago(5 * HOUR_MS)))
  await receive(database, 'vobiz-voice', 'StartApp', form({ CallUUID: 'going on', To: '910000000009' }))
  await receive(database, 'plivo-voice', 'Hangup', form({ TotalCost: '0.25000' }, NOON))
  await receive(database, 'plivo-voice', 'Hangup', form({ TotalCost: '0.05000' }, new Date(+NOON + 1)))
  for (const MessageStatus of ['delivered', 'delivered', 'failed', 'sent']) {
    await receive(database, twilio, 'message.status', form({ MessageStatus }, NOON))
  }
  const at = new Date(new Date(Date.now() - 2 * HOUR_MS).setMinutes(10))
  for (const CallStatus of ['busy', 'busy', 'completed'])
    await receive(database, twilio, 'call.status', form({ CallStatus }, at))
  await sql`
    insert into quarantine (id, source, reason, received_at, method, url, headers, body)
    select id, 'vobiz', 'signature_mismatch', uuid_extract_timestamp(id), 'POST', '/', '{}', '' from uuidv7() as id`
  await sql`insert into quarantine_dropped (source, reason, count) values ('vobiz', 'signature_mismatch', 41)`
  await sql`
    update deliveries set status = 'dead', next_attempt_at = null, finished_at = now(), last_error = 'HTTP 500'
    where event_id = (select id from events where callback_id = '1001')`
  // Two reports of a worker: ten attempts that took 20 to 50 ms.
  await sql`
    insert into delivery_minutes (minute, source, type, handler, attempts, failures, dead, duration_ms)
    select date_trunc('minute', now()), 'voximplant', 'min_balance', 'crm', 5, 1, 0, '{0,0,0,0,0,5,0,0,0,0,0,0,0,0,0,0}'
    from generate_series(1, 2)`

  const today = (await ask('What came in today, by type')).find(({ type }) => type === 'min_balance')
  expect(today).toMatchObject({ events: '1', duplicates: '2' })
  expect((await ask('The last events'))[0]).toMatchObject({ source: 'vobiz', type: 'StartApp' })
  expect(await ask('Everything about one callback')).toMatchObject([{ type: 'min_balance', duplicates: 2 }])
  expect(await ask('Low-balance history')).toMatchObject([{ account_id: '1234567', balance: 4.99, currency: 'USD' }])
  expect((await ask('The calls of a number')).map(({ call_id }) => call_id)).toContain(CALL)
  expect((await ask('The calls of a number')).map(({ call_id }) => call_id)).not.toContain('lost')
  expect((await ask('The events of one call, in order')).map(({ type, gap }) => [type, gap])).toEqual([
    ['StartApp', null],
    ['Ring', '00:00:04'],
    ['Hangup', '00:29:56'],
  ])
  expect(await ask('Where a call stands')).toMatchObject([{ type: 'Hangup', status: 'completed' }])
  expect(await ask('Spend per day')).toMatchObject(
    expect.arrayContaining([
      expect.objectContaining({ source: 'plivo', cost: '0.30000', billed_seconds: '240' }),
      expect.objectContaining({ source: 'vobiz', cost: '0.01000', billed_seconds: '60' }),
    ]) as object,
  )
  expect((await ask('Calls without a hangup')).map(({ call_id }) => call_id)).toEqual(['lost'])
  expect(await ask('Unanswered calls per hour')).toMatchObject([{ status: 'busy', count: '2' }])
  expect(await ask('SMS delivery rate')).toMatchObject([{ ended: '3', percent_delivered: '66.7' }])
  expect(await ask('What changed between duplicates')).toMatchObject([
    { callback_id: '1001', changes: { balance: [4.99, 9] } },
  ])
  expect(await ask('Failed deliveries, by endpoint')).toMatchObject([
    { handler: 'crm', last_error: 'HTTP 500', count: '1' },
  ])
  expect(await ask('The slowest endpoints')).toMatchObject([
    { handler: 'crm', attempts: '10', failures: '2', p50_ms: 35, p95_ms: 48.5 },
  ])
  expect(await ask('Quarantine reasons today')).toMatchObject([{ source: 'vobiz', refused: '42' }])
  expect((await ask('From happening to stored')).map(({ source }) => source)).toContain('voximplant')
  expect(await ask('Run a new handler on stored events')).toEqual([])
  expect(await ask('Run a new handler on stored events'), 'again').toEqual([])
  expect(
    await sql`
      select d.status, d.next_attempt_at <= now() as due, e.type
      from deliveries as d join events as e on e.id = d.event_id where d.handler = 'star'`,
  ).toEqual([{ status: 'pending', due: true, type: 'min_balance' }])
  const again = form({ CallUUID: 'lost', To: '910000000009', BillRate: '1' })
  await receive(database, 'vobiz-voice', 'StartApp', again)
  await sql`
    insert into attempts (delivery_id, event_received_at, number, started_at)
    select id, event_received_at, 1, now() from deliveries where handler = 'crm'`
  const kept = async () =>
    await sql`
      select (select count(*)::integer from events) as events, (select count(*)::integer from duplicates) as duplicates,
        (select count(*)::integer from deliveries) as deliveries, (select count(*)::integer from attempts) as attempts`
  const [before] = await kept()
  const deleted = await ask("Delete a person's data")
  expect(new Set(deleted.map(({ call_id }) => call_id))).toEqual(new Set(['lost', 'going on']))
  await receive(database, 'vobiz-voice', 'StartApp', again)
  expect(await kept(), 'all of the two events, and nothing else').toEqual([
    {
      events: before!.events - 2,
      duplicates: before!.duplicates - 1,
      deliveries: before!.deliveries - 2,
      attempts: before!.attempts - 2,
    },
  ])
  expect([...asked].toSorted()).toEqual(book.map(({ title }) => title).toSorted())
})
