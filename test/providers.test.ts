import { expect, test } from 'vitest'
import type { Config } from '@ringback/core/config'
import type { GenuineCallback, OutgoingRequest, Source } from '@ringback/core/providers/provider'
import type { Sql } from '@ringback/core/store/connect'
import { everySource, sampleRequest, samplesOf } from './support/every-source.ts'
import { eventually, freshDatabase, startIngest, startWorker } from './support/ringback.ts'

/** One sample of one source as two requests: one that its provider signed, and one that somebody else did. */
interface Case {
  name: string
  event: string
  genuine: OutgoingRequest
  forged: OutgoingRequest
  expected: GenuineCallback
}

test('whatever a provider sends is stored once, however often it comes, and what anybody else sends is kept apart', async () => {
  await using database = await freshDatabase()
  const config = everySource()
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const cases = [...config.sources].flatMap(([name, source]) => casesOf(config, name, source))
  expect(cases.length).toBeGreaterThan(100)

  expect(await statuses(ingest, cases, 'genuine')).toEqual(answers(cases, 200))
  await counts(database.sql, { events: cases.length, duplicates: 0, quarantined: 0 })
  expect(await statuses(ingest, cases, 'genuine')).toEqual(answers(cases, 200))
  await counts(database.sql, { events: cases.length, duplicates: cases.length, quarantined: 0 })
  expect(await statuses(ingest, cases, 'forged')).toEqual(answers(cases, 401))
  await counts(database.sql, { events: cases.length, duplicates: cases.length, quarantined: cases.length })

  const events = await database.sql<StoredEvent[]>`select * from events`
  for (const { name, event, genuine, expected } of cases) {
    const label = `${name} ${event}`
    const stored = events.find(
      ({ source, callback_id: id }) => source === name && withoutWindow(id) === withoutWindow(expected.callbackId),
    )
    expect(stored, label).toMatchObject({
      account_id: expected.accountId,
      type: expected.type,
      call_id: expected.callId ?? null,
      verified_by: expected.verifiedBy,
      secret: expected.secret ?? null,
      duplicates: 1,
      method: genuine.method,
      raw: expected.raw,
    })
    expect(stored!.payload, label).toEqual(fieldsOf(genuine, config.sources.get(name)!))
    expect(Object.values(stored!.headers).join(), label).not.toContain(CREDENTIALS)
  }
  const refused = await database.sql<{ source: string; headers: object }[]>`select source, headers from quarantine`
  expect(refused.map(({ source }) => source).toSorted()).toEqual(cases.map(({ name }) => name).toSorted())
})

interface StoredEvent {
  source: string
  callback_id: string
  payload: unknown
  headers: Record<string, string>
}

/** What the sources without a signature ask for, as a header has it. */
const CREDENTIALS = Buffer.from('user:pass:word').toString('base64')

function casesOf(config: Config, name: string, source: Source): Case[] {
  return Object.entries(samplesOf(source)).map(([event, sample]) => {
    const genuine = sampleRequest(config, name, sample)
    const header = (wanted: string) => genuine.headers[wanted]
    const reading = source.read({ ...genuine, header, remoteAddress: undefined, receivedAt: new Date() })
    const [expected, ...others] = reading.kind === 'read' ? reading.callbacks : []
    if (expected?.kind !== 'genuine' || others.length > 0) throw new Error(`${name} ${event}: no genuine callback`)
    return { name, event, genuine, forged: sampleRequest(config, name, sample, { forged: true }), expected }
  })
}

const answers = (cases: Case[], status: number) => cases.map(({ name, event }) => `${name} ${event}: ${status}`)

/** The answers to one of the requests of every case. */
async function statuses(ingest: { port: number }, cases: Case[], which: 'genuine' | 'forged'): Promise<string[]> {
  return Promise.all(
    cases.map(async (one) => {
      const { method, url, headers, body } = one[which]
      const { pathname, search } = new URL(url)
      const response = await fetch(`http://127.0.0.1:${ingest.port}${pathname}${search}`, {
        method,
        headers,
        ...(method !== 'GET' && { body: new Uint8Array(body) }),
      })
      await response.arrayBuffer()
      return `${one.name} ${one.event}: ${response.status}`
    }),
  )
}

function counts(sql: Sql, expected: { events: number; duplicates: number; quarantined: number }): Promise<void> {
  return eventually(async () => {
    const [found] = await sql`
      select
        (select count(*) from events)::integer as events,
        (select coalesce(sum(duplicates), 0) from events)::integer as duplicates,
        (select count(*) from quarantine)::integer as quarantined`
    expect(found).toEqual(expected)
  })
}

/** What was sent, by the means of the tests: JSON, or the fields of a form or a query. */
function fieldsOf({ method, url, body }: OutgoingRequest, source: Source): unknown {
  if (method === 'GET') return Object.fromEntries(new URL(url).searchParams)
  // FoneStorm calls its JSON a form.
  if (!/^[[{]/.test(String(body))) return Object.fromEntries(new URLSearchParams(String(body)))
  const value: unknown = JSON.parse(String(body))
  return Array.isArray(value) || source.envelope !== undefined ? onlyElement(value) : value
}

/** Of a batch of one: the document is a list, or has one for a member. */
function onlyElement(batch: unknown): unknown {
  const list = Array.isArray(batch) ? batch : Object.values(batch as object).find(Array.isArray)
  expect(list).toHaveLength(1)
  return (list as unknown[])[0]
}

/** Where only its bytes name a callback, the name ends in the window of time in which it came. */
function withoutWindow(callbackId: string): string {
  return callbackId.replace(/^(body:.*):\d+$/, '$1')
}
