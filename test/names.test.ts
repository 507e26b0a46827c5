import { describe, expect, test } from 'vitest'
import type { QueuedCallback } from '@ringback/core/callback'
import { connect } from '@ringback/core/store/connect'
import { freshDatabase, groupOf, idAt, queued, untilAdvisoryLockIsWaitedFor } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { bytes, counts, refusal, storeInto } from './support/stored.ts'

// Which callbacks are the same one where that is for a nonce to say, or where only their bytes name them.

const DAY = '2026-01-01'

/** A callback that only its bytes name: its name says in which ten minutes of the day it came. */
function byBytes(time: string, fields: Partial<QueuedCallback> = {}): QueuedCallback {
  const at = `${DAY}T${time}Z`
  const window = Math.floor((Date.parse(at) - Date.parse(DAY)) / 600_000)
  return queued(`body:h:${window}`, {
    id: idAt(at),
    previousName: { callbackId: `body:h:${window - 1}`, windowSeconds: 600 },
    raw: bytes('the same'),
    ...fields,
  })
}

test('each nonce is looked up by itself, also before Postgres has looked at how many there are', async () => {
  await using database = await freshDatabase()
  const sql = connect(database.url, { max: 1, applicationName: 'one worker' })
  try {
    const callbacks = Array.from({ length: 200 }, (_, index) => queued(`c${index}`, { nonces: [`n${index}`] }))
    await storeInto({ ...database, sql })(groupOf(callbacks))
    await sql`select pg_stat_force_next_flush()`
    const [row] = await sql<{ reads: number }[]>`
      select (seq_tup_read + idx_tup_fetch)::integer as reads from pg_stat_user_tables where relname = 'nonces'`
    expect(row!.reads).toBeLessThanOrEqual(2 * callbacks.length)
  } finally {
    await sql.end()
  }
})

test('a nonce that comes again with the same bytes is a repetition, with others a forgery', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const first = queued('x', { nonces: ['n1'], raw: bytes('first') })
  const forgery = queued('y', { nonces: ['n1'], raw: bytes('forged') })
  await store(groupOf([first]))
  await store(
    groupOf([
      forgery,
      queued('z', { nonces: ['n2', 'n3'] }),
      queued('w', { nonces: ['n4', 'n3'] }),
      queued('x', { nonces: ['n1'], raw: bytes('first') }),
    ]),
  )
  await store(groupOf([queued('other', { nonces: ['n1'], source: 'other' })]))
  expect(await counts(database)).toEqual({ events: 3, duplicates: 1, repetitions: 1, deliveries: 3, quarantined: 2 })
  expect(
    await database.sql`select id, reason, scope, callback_id, body from quarantine where callback_id = 'y'`,
  ).toEqual([
    { id: forgery.id, reason: 'nonce_reused', scope: 'callback', callback_id: 'y', body: Buffer.from('"forged"') },
  ])
})

test('what is refused for its nonce keeps its request, by which an operator judges it', async () => {
  await using database = await freshDatabase()
  const request = { method: 'PUT', url: '/callbacks/voximplant?a=1', headers: { 'user-agent': 'somebody' } }
  const forgery = queued('y', { nonces: ['n1'], raw: bytes('forged'), ...request })
  await storeInto(database)(groupOf([queued('x', { nonces: ['n1'], raw: bytes('first') }), forgery]))
  expect(await database.sql`select method, url, headers from quarantine`).toEqual([request])
})

describe('the same bytes with the same nonce are a repetition', () => {
  const copy = (time: string, ...nonces: string[]) => byBytes(time, { nonces })
  const events = ({ sql }: Database) => sql`select account_id, callback_id, duplicates from events order by received_at`

  test.each([
    ['an hour later', [copy('00:00', 'n1'), copy('01:00', 'n1')]],
    ['with one nonce of several', [copy('00:00', 'n1', 'n2'), copy('01:00', 'n2')]],
    [
      'by another account, whose secret made the other of its signatures',
      [copy('00:00', 'n1'), { ...copy('01:00', 'n1'), accountId: '2' }],
    ],
    [
      'by way of a nonce that came with a repetition',
      [copy('00:00', 'n1'), copy('01:00', 'n1', 'n2'), copy('02:00', 'n2')],
    ],
    ['of what was a repetition by its bytes alone', [copy('00:09', 'n1'), copy('00:11', 'n2'), copy('01:00', 'n2')]],
    [
      'though named by fields that the provider file reads now',
      [queued('old', { raw: bytes('the same'), nonces: ['n1'] }), copy('01:00', 'n1')],
    ],
  ])('%s', async (_name, callbacks) => {
    const first = { account_id: '1', callback_id: callbacks[0]!.callbackId, duplicates: callbacks.length - 1 }
    await using apart = await freshDatabase()
    for (const callback of callbacks) await storeInto(apart)(groupOf([callback]))
    expect(await events(apart)).toEqual([first])
    expect(await counts(apart)).toMatchObject({ repetitions: callbacks.length - 1, deliveries: 1, quarantined: 0 })
    await using together = await freshDatabase()
    await storeInto(together)(groupOf(callbacks))
    expect(await events(together)).toEqual([first])
  })

  test('though the partition of the first is gone', async () => {
    await using database = await freshDatabase()
    const store = storeInto(database)
    await store(groupOf([copy('00:00', 'n1')]))
    await database.sql`delete from events`
    await store(groupOf([copy('01:00', 'n1')]))
    expect(await events(database)).toEqual([])
    expect(await database.sql`select callback_id from event_names`).toEqual([{ callback_id: 'body:h:0' }])
  })

  test('and with a nonce of its own, later, another event', async () => {
    await using database = await freshDatabase()
    await storeInto(database)(groupOf([copy('00:00', 'n1'), copy('01:00', 'n2'), copy('02:00', 'n1')]))
    expect(await events(database)).toMatchObject([{ duplicates: 1 }, { callback_id: 'body:h:6', duplicates: 0 }])
  })

  test('stored by many workers at the same moment, too', async () => {
    await using database = await freshDatabase()
    const copies = Array.from({ length: 20 }, (_, hour) => copy(`${String(hour).padStart(2, '0')}:00`, 'n1'))
    await Promise.all(copies.map((copy) => storeInto(database)(groupOf([copy]))))
    expect(await counts(database)).toMatchObject({ events: 1, duplicates: 19, quarantined: 0 })
  })
})

test('of two callbacks with one nonce in one group the first is taken', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  await store(
    groupOf(
      ['x', 'y'].map((id) => queued(id, { nonces: ['n1'], raw: bytes(id) })),
      [refusal()],
    ),
  )
  expect(await database.sql`select callback_id from events`).toEqual([{ callback_id: 'x' }])
  expect(await database.sql`select reason from quarantine order by reason`).toEqual([
    { reason: 'hash_mismatch' },
    { reason: 'nonce_reused' },
  ])
})

test('one nonce with different bytes, stored at the same moment by many workers, lets one of them in', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  const groups = Array.from({ length: 20 }, (_, index) =>
    groupOf([queued(`c${index}`, { nonces: ['n1'], raw: bytes(`body ${index}`) })]),
  )
  await Promise.all(groups.map((group) => store(group)))
  expect(await counts(database)).toMatchObject({ events: 1, quarantined: 19 })
})

test('what only its bytes name keeps its name over the edge of a window, and no longer', async () => {
  await using database = await freshDatabase()
  const store = storeInto(database)
  for (const time of ['00:09:59', '00:10:01', '00:20:02']) await store(groupOf([byBytes(time)]))
  expect(await database.sql`select callback_id, duplicates from events order by received_at`).toEqual([
    { callback_id: 'body:h:0', duplicates: 1 },
    { callback_id: 'body:h:2', duplicates: 0 },
  ])
})

test.each([
  ['in their order', false],
  ['in the other order', true],
])(
  'what only its bytes name keeps its name too where both copies are stored together, %s',
  async (_name, isReversed) => {
    await using database = await freshDatabase()
    const group = [byBytes('00:09:59'), byBytes('00:10:01', { accountId: 'another' }), byBytes('00:10:01')]
    await storeInto(database)(groupOf(isReversed ? group.toReversed() : group))
    expect(await database.sql`select account_id, callback_id, duplicates from events order by account_id`).toEqual([
      { account_id: '1', callback_id: 'body:h:0', duplicates: 1 },
      { account_id: 'another', callback_id: 'body:h:1', duplicates: 0 },
    ])
  },
)

test.each([
  ['the earlier', ['00:09:59', '00:10:01']],
  ['the later', ['00:10:01', '00:09:59']],
])(
  'what only its bytes name keeps its name too where both are stored at the same moment, %s one first',
  async (_name, [first, second]) => {
    await using database = await freshDatabase()
    const { sql } = database
    const [one, other] = [byBytes(first!), byBytes(second!)]
    // Else it would be for these that the second waits.
    await sql`select ensure_partitions(${DAY}, ${DAY})`
    const { storing } = await sql.begin(async (transaction) => {
      await transaction`select store_callbacks(${JSON.stringify([one])}, '[]', '[]', '[]', true)`
      const storing = storeInto(database)(groupOf([other]))
      await untilAdvisoryLockIsWaitedFor(database)
      return { storing }
    })
    await storing
    expect(await sql`select callback_id, duplicates from events`).toEqual([
      { callback_id: one.callbackId, duplicates: 1 },
    ])
  },
)

test.each(['in groups of their own', 'in one group'])(
  'what only its bytes name is another where the time of a window has passed, or its source is another (%s)',
  async (way) => {
    await using database = await freshDatabase()
    const store = storeInto(database)
    const copies = [
      byBytes('00:00:05', { source: 'a' }),
      // In the next window, but more than its length later.
      byBytes('00:10:10', { source: 'a' }),
      byBytes('00:09:59', { source: 'b' }),
      byBytes('00:10:01', { source: 'c' }),
    ]
    if (way === 'in one group') await store(groupOf(copies))
    else for (const each of copies) await store(groupOf([each]))
    expect(await database.sql`select source, callback_id, duplicates from events order by source, id`).toEqual([
      { source: 'a', callback_id: 'body:h:0', duplicates: 0 },
      { source: 'a', callback_id: 'body:h:1', duplicates: 0 },
      { source: 'b', callback_id: 'body:h:0', duplicates: 0 },
      { source: 'c', callback_id: 'body:h:1', duplicates: 0 },
    ])
  },
)
