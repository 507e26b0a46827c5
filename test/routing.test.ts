import { expect, test } from 'vitest'
import { code } from '@ringback/core/handlers'
import type { Filter, RoutedEvent } from '@ringback/core/filter'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'

test('an event goes to the handlers whose proof, fields and function it fits, and a "when" that throws loses none', async () => {
  await using database = await freshDatabase()
  const filters: Record<string, Filter> = {
    everything: {},
    'by-proof': { verifiedBy: { atLeast: 'id' } },
    'by-stronger-proof': { verifiedBy: 'body' },
    'by-id': { fields: { 'sms.message_id': '9007199254740993' } },
    'by-number': { fields: { 'sms.to': { startsWith: '+49' }, 'sms.parts': { gt: 1 } } },
    'by-function': { when: ({ payload }: RoutedEvent) => (payload as { sms: { parts: number } }).sms.parts > 2 },
    throws: { type: 'sms_inbound', when: ({ payload }) => (payload as { no: { such: boolean } }).no.such },
    'own-events': { source: 'ringback' },
  }
  const handlers = Object.entries(filters).map(([name, on]) => ({ name, on, run: code(() => {}) }))
  const config = configWith({ handlers })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const big = JSON.stringify(aCallback(1, { sms: { message_id: 0, to: '+4930', parts: 2 } }))
  const sent = `{"callbacks":[${big.replace('"message_id":0', '"message_id":9007199254740993')},${JSON.stringify(
    aCallback(2, { sms: { message_id: 7, to: '+4330', parts: 3 } }),
  )}]}`
  await postCallbacks(ingest) // an empty batch is nothing to route
  const answer = await fetch(`http://127.0.0.1:${ingest.port}/callbacks/voximplant`, { method: 'POST', body: sent })
  expect(answer.status).toBe(200)
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(9),
  )
  const routed = await database.sql`
    select e.callback_id as callback, array_to_json(array_agg(d.handler order by d.handler)) as handlers
    from deliveries as d join events as e on e.id = d.event_id
    group by e.callback_id order by e.callback_id`
  expect(routed).toEqual([
    { callback: '1', handlers: ['by-id', 'by-number', 'by-proof', 'everything', 'throws'] },
    { callback: '2', handlers: ['by-function', 'by-proof', 'everything', 'throws'] },
  ])
})
