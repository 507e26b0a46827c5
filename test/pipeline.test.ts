import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import vectors from '../packages/core/test/vectors/voximplant.json' with { type: 'json' }
import { code, log } from '@ringback/core/handlers'
import type { HandledEvent } from '@ringback/core/handlers'
import { generic } from '@ringback/core/providers/generic'
import { demoCredentials, signCallbackId, voximplant } from '@ringback/core/providers/voximplant'
import { ingestPort, runApp } from './support/processes.ts'
import {
  aCallback,
  configWith,
  environmentFor,
  eventually,
  freshDatabase,
  post,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'

test('a signed callback becomes one row, and its handler runs once with what was sent', async () => {
  await using database = await freshDatabase()
  const handled: HandledEvent[] = []
  const config = configWith({
    handlers: [{ name: 'collect', on: { type: 'sms_*' }, run: code((event) => void handled.push(event)) }],
  })
  await using ingest = await startIngest(database, { config })
  await using worker = await startWorker(database, { config })

  const response = await postCallbacks(
    ingest,
    aCallback('9007199254740993', { sms_inbound: { sms_inbound: { sms_body: 'Привет' } } }),
  )
  expect(response.status).toBe(200)

  await eventually(async () =>
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(1),
  )
  expect(handled).toMatchObject([
    {
      source: 'voximplant',
      accountId: demoCredentials.accountId,
      callbackId: '9007199254740993',
      type: 'sms_inbound',
      verifiedBy: 'id',
      details: { sms_body: 'Привет' },
    },
  ])
  const [event] = await database.sql`select *, uuid_extract_timestamp(id) = received_at as id_holds_time from events`
  expect(event).toMatchObject({
    callback_id: '9007199254740993',
    duplicates: 0,
    id_holds_time: true,
    headers: { 'content-type': 'application/json' },
  })
  expect(await database.sql`select outcome, number from attempts`).toMatchObject([{ outcome: 'succeeded', number: 1 }])
  expect(await worker.ready()).toBe(true)
})

test('what is sent to / is for the source that ROOT_SOURCE names', async () => {
  await using database = await freshDatabase()
  const environment = { ...(await environmentFor(database)), PORT: '0', ROOT_SOURCE: 'voximplant' }
  await using ingest = runApp('ingest', environment)
  const { status } = await post({ port: await ingestPort(ingest) }, JSON.stringify({ callbacks: [aCallback(1)] }), '/')
  expect(status).toBe(200)
})

test('a callback that comes again is counted, not stored and not handled again', async () => {
  await using database = await freshDatabase()
  const config = configWith({ handlers: [{ name: 'log', run: log({ message: 'came' }) }] })
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database, { config })
  for (const id of [1001, '1001', 1001]) expect((await postCallbacks(ingest, aCallback(id))).status).toBe(200)
  const [event] = await eventually(async () => {
    const rows = await database.sql`select * from events`
    expect(rows).toMatchObject([{ duplicates: 2 }])
    return rows
  })
  expect(event!.last_duplicate_at).toBeInstanceOf(Date)
  // The number and the string of the same digits are one id, and no change of the content.
  expect(await database.sql`select changed, raw from duplicates`).toMatchObject([
    { changed: false, raw: null },
    { changed: false, raw: null },
  ])
  await eventually(async () =>
    expect(await database.sql`select attempts from deliveries where status = 'succeeded'`).toMatchObject([
      { attempts: 1 },
    ]),
  )
})

test('the same name with another content is a changed duplicate, with its bytes', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const changed = aCallback(1001, { balance: 1_000_000 })
  await postCallbacks(ingest, aCallback(1001, { balance: 5 }), changed)
  await eventually(async () =>
    expect(await database.sql`select duplicates from events`).toMatchObject([{ duplicates: 1 }]),
  )
  expect(await database.sql`select changed, raw from duplicates`).toEqual([
    { changed: true, raw: Buffer.from(JSON.stringify(changed)) },
  ])
  expect(await database.sql`select payload -> 'balance' as balance from events`).toMatchObject([{ balance: 5 }])
})

/** Sends the body with `sent` in the place of its `%`, then with `delivered`, and waits for what is told of the repetition. */
async function repetitionsOf(body: string): Promise<unknown[]> {
  await using database = await freshDatabase()
  const config = configWith({
    sources: { any: generic({ urlTokens: 'token', callbackId: { field: 'id' }, type: { field: 'type' } }) },
  })
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  for (const status of ['sent', 'delivered']) {
    const url = `http://127.0.0.1:${ingest.port}/callbacks/any/token`
    const { ok } = await fetch(url, { method: 'POST', body: body.replace('%', status) })
    expect(ok).toBe(true)
  }
  return await eventually(async () => {
    const rows = await database.sql`select changes from changed_duplicates`
    expect(rows).toHaveLength(1)
    return [...rows]
  })
}

test.each([
  ['a form', 'id=1&type=sms&tag=a&tag=b+c&to=&status=%'],
  ['JSON', ' {"id":"1","type":"sms","tags":["a"],"status":"%"}'],
  [
    'JSON with numbers and what looks like large ones',
    '{"id":"1","type":"sms","n":[1e100,"1e999\\" 1e999"],"status":"%"}',
  ],
])('of a repetition in %s the fields that differ are told, and no others', async (_name, body) => {
  expect(await repetitionsOf(body)).toEqual([{ changes: { status: ['sent', 'delivered'] } }])
})

test.each([
  ['JSON with U+0000, which jsonb cannot hold', '{"id":"1","type":"sms","text":"a\\u0000","status":"%"}'],
  ['JSON with half a pair of surrogates', '{"id":"1","type":"sms","text":"\\ud800","status":"%"}'],
  ['JSON with a number of 131,072 digits', '{"id":"1","type":"sms","number":[1e131071],"status":"%"}'],
])('a repetition that is %s is told as changed, without its fields', async (_name, body) => {
  expect(await repetitionsOf(body)).toEqual([{ changes: null }])
})

test('a forged copy never takes the name of the genuine callback', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  expect((await postCallbacks(ingest, aCallback(1001, { hash: '0'.repeat(32), balance: 666 }))).status).toBe(401)
  expect(
    (await postCallbacks(ingest, aCallback(1001, { hash: '0'.repeat(32) }), aCallback(1001, { balance: 5 }))).status,
  ).toBe(200)
  await eventually(async () =>
    expect(await database.sql`select payload -> 'balance' as balance, duplicates from events`).toEqual([
      { balance: 5, duplicates: 0 },
    ]),
  )
  // They are in two groups, which are stored in any order.
  const quarantined = await eventually(async () => {
    const rows = await database.sql`select source, reason, callback_id, body from quarantine order by id`
    expect(rows).toMatchObject([
      { source: 'voximplant', reason: 'hash_mismatch', callback_id: '1001' },
      { source: 'voximplant', reason: 'hash_mismatch', callback_id: '1001' },
    ])
    return rows
  })
  expect(JSON.parse(String(quarantined[0]!.body))).toMatchObject({ balance: 666 })
})

test('every vector of Voximplant is stored and answered as its class demands', async () => {
  await using database = await freshDatabase()
  await using _worker = await startWorker(database)
  // One source a vector, so that they do not share names.
  const { accountId, apiKey, salt } = vectors.credentials
  const source = voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] })
  const sources = Object.fromEntries(vectors.requests.map((_vector, index) => [`v${index}`, source]))
  await using ingest = await startIngest(database, {
    config: configWith({ sources }),
    allowance: { items: 1000, bytes: 10_000_000 },
  })

  for (const [index, vector] of vectors.requests.entries()) {
    const body =
      'body' in vector
        ? vector.body
        : vector.bodyParts.map(([text, times]) => String(text).repeat(Number(times))).join('')
    const verdicts = 'refused' in vector.expect ? ['unreadable'] : vector.expect.callbacks.map(({ kind }) => kind)
    const expected =
      verdicts.length === 0 || verdicts.includes('genuine') ? 200 : verdicts.includes('forged') ? 401 : 400
    expect({ name: vector.name, status: (await post(ingest, body, `/callbacks/v${index}`)).status }).toEqual({
      name: vector.name,
      status: expected,
    })
  }

  const expectedRows = vectors.requests.map((vector, index) => {
    const callbacks =
      'refused' in vector.expect
        ? [{ kind: 'unreadable', callbackId: '' }]
        : (vector.expect.callbacks as { kind: string; callbackId?: string }[])
    const genuine = callbacks.filter(({ kind }) => kind === 'genuine').map(({ callbackId }) => callbackId!)
    return {
      name: vector.name,
      events: [...new Set(genuine)].toSorted(),
      duplicates: genuine.length - new Set(genuine).size,
      quarantined: callbacks.length - genuine.length,
      source: `v${index}`,
    }
  })
  await eventually(async () => {
    const events = await database.sql<
      { source: string; callback_id: string; duplicates: number }[]
    >`select source, callback_id, duplicates from events`
    const quarantined = await database.sql<{ source: string }[]>`select source from quarantine`
    const rows = vectors.requests.map((vector, index) => {
      const own = events.filter(({ source: name }) => name === `v${index}`)
      return {
        name: vector.name,
        events: own.map(({ callback_id: id }) => id).toSorted(),
        duplicates: own.reduce((sum, { duplicates }) => sum + duplicates, 0),
        quarantined: quarantined.filter(({ source: name }) => name === `v${index}`).length,
        source: `v${index}`,
      }
    })
    expect(rows).toEqual(expectedRows)
  })
})

test('what jsonb refuses is stored as a cleaned copy, beside the exact bytes', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const hash = (id: number) => signCallbackId(demoCredentials, String(id))
  const items = [
    Buffer.from(`{"callback_id":1,"hash":"${hash(1)}","s":"a\\u0000b"}`),
    Buffer.from(`{"callback_id":2,"hash":"${hash(2)}","s":"\\ud800"}`),
    Buffer.concat([
      Buffer.from(`{"callback_id":3,"hash":"${hash(3)}","s":"`),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"}'),
    ]),
    Buffer.from(`{"callback_id":4,"hash":"${hash(4)}","n":1e200000}`),
    Buffer.from(`{"callback_id":5,"hash":"${hash(5)}","n":1.0,"m":12345678901234567890}`),
  ]
  const body = Buffer.concat([
    Buffer.from('{"callbacks":['),
    ...items.flatMap((item, index) => (index === 0 ? [item] : [Buffer.from(','), item])),
    Buffer.from(']}'),
  ])
  expect((await post(ingest, body)).status).toBe(200)
  const events = await eventually(async () => {
    const rows =
      await database.sql`select raw, payload ->> 's' as s, payload ->> 'n' as n, payload ->> 'm' as m from events order by callback_id`
    expect(rows).toHaveLength(5)
    return rows
  })
  expect(events.map(({ raw }) => raw as Buffer)).toEqual(items)
  expect(events.map(({ s, n, m }) => [s, n, m])).toEqual([
    ['a\ufffdb', null, null],
    ['\ufffd', null, null],
    ['\ufffd\ufffd', null, null],
    [null, '1e200000', null],
    [null, '1.0', '12345678901234567890'],
  ])
})

test('quarantine is bounded: the rows that are kept and the counts of the others add up to what was refused', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database, { allowance: { items: 20, bytes: 1_000_000 } })
  await using _worker = await startWorker(database)
  const forged = Array.from({ length: 100 }, (_, index) => aCallback(index, { hash: '0'.repeat(32) }))
  const statuses = await Promise.all(forged.map(async (callback) => (await postCallbacks(ingest, callback)).status))
  expect(new Set(statuses)).toEqual(new Set([401]))
  expect((await post(ingest, 'x'.repeat(1024 * 1024 + 1))).status).toBe(413)
  await eventually(async () => {
    const [kept] = await database.sql`select count(*)::integer as count from quarantine`
    const [dropped] =
      await database.sql`select coalesce(sum(count), 0)::integer as count from quarantine_dropped where reason = 'hash_mismatch'`
    expect([kept!.count >= 20, kept!.count + dropped!.count]).toEqual([true, 100])
    expect(await database.sql`select count from quarantine_dropped where reason = 'too_large'`).toMatchObject([
      { count: 1 },
    ])
  })
})

test('refusals that are only counted are sent when ingest ends, before its queue is closed', async () => {
  await using database = await freshDatabase()
  const ingest = await startIngest(database, { allowance: { items: 0, bytes: 0 } })
  await postCallbacks(ingest, aCallback(1, { hash: '0'.repeat(32) }), aCallback(2, { hash: '0'.repeat(32) }))
  await ingest.close()
  await using _worker = await startWorker(database)
  await eventually(async () =>
    expect(await database.sql`select source, reason, count from quarantine_dropped`).toEqual([
      { source: 'voximplant', reason: 'hash_mismatch', count: 2 },
    ]),
  )
})

test('fields that are not to be kept reach neither the queue nor the database', async () => {
  await using database = await freshDatabase()
  const { accountId, apiKey, salt } = demoCredentials
  const config = configWith({
    sources: {
      voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }], dropFields: ['account_email'] }),
    },
  })
  await using ingest = await startIngest(database, { config })
  await postCallbacks(
    ingest,
    aCallback(1, { account_email: 'dana@example.test', balance: 5 }),
    aCallback(2, { account_email: 'dana@example.test', hash: '' }),
  )
  await using _worker = await startWorker(database)
  const rows = await eventually(async () => {
    const found = await database.sql`
      select convert_from(raw, 'UTF8') || payload::text as text from events
      union all
      select convert_from(body, 'UTF8') from quarantine`
    expect(found).toHaveLength(2)
    return found
  })
  expect(JSON.stringify(rows)).not.toContain('dana')
  expect(JSON.stringify(rows)).toContain('balance')
})

test('of two callbacks with one name that a worker takes in one round, or in rounds that are not full, the first is the event', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  const names = Array.from({ length: 60 }, (_, index) => 5000 + index)
  for (const name of names) {
    // Every third one in a form that Postgres refuses at first, for which a round is taken apart.
    const text = name % 3 === 0 ? 'with \u0000' : 'plain'
    for (const number of [1, 2]) {
      const send = () => postCallbacks(ingest, aCallback(name, { number, text }))
      while ((await send()).status !== 200) continue // a machine that is busy may not take it in time
    }
    if (name % 2 === 0) await sleep(25) // so that a round begins between these and the next
    // Twenty groups wait at most, and a round holds more.
    const sent = name - names[0]! + 1
    if (sent % 10 === 0)
      await eventually(async () =>
        expect(await database.sql`select from events where duplicates > 0`).toHaveLength(sent),
      )
  }
  const [{ late } = {}] = await database.sql<{ late: number }[]>`
    select count(*)::int as late from events where payload ->> 'number' <> '1'`
  expect(late).toBe(0)
})
