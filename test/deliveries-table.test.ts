import { expect, test } from 'vitest'
import { claimDeliveries, deferDeliveries, recordAttempts, renewLeases } from '../apps/worker/src/deliveries-table.ts'
import type { EndedAttempt, QueuedDelivery } from '../apps/worker/src/deliveries-table.ts'
import { freshDatabase, groupOf, queued, storeOneByOne } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { handlers } from './support/stored.ts'

// Jobs of the deliveries queue come twice, and late: what they may do then is for the tables alone to say.

const options = { leaseMs: 60_000, isCounted: false, needsRequest: false }

/** A delivery that waits for its first attempt, as its job has it. */
async function oneDelivery(database: Database, callbackId = 'a'): Promise<QueuedDelivery> {
  const deliveries: QueuedDelivery[] = []
  const store = storeOneByOne(database, {
    handlers,
    enqueueDeliveries: async (job) => void deliveries.push(...job.deliveries),
  })
  await store(groupOf([queued(callbackId)]))
  return deliveries[0]!
}

const succeeded = ({ id, receivedAt }: QueuedDelivery, attempt: number): EndedAttempt => ({
  id,
  eventReceivedAt: receivedAt,
  attempt,
  durationMs: 1,
  ok: true,
  error: undefined,
  next: { kind: 'succeeded' },
})

const cancel = ({ sql }: Database) =>
  sql`update deliveries set status = 'canceled', next_attempt_at = null, lease_until = null, finished_at = now()`

async function row({ sql }: Database) {
  const [found] = await sql`select status, attempts, next_attempt_at, lease_until from deliveries`
  return found
}

test('a job that comes twice begins its attempt once, though the first is still under way', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  expect(await claimDeliveries(database.sql, [delivery], options)).toHaveLength(1)
  expect(await claimDeliveries(database.sql, [delivery], options)).toHaveLength(0)
  expect(await row(database)).toMatchObject({ status: 'pending', attempts: 1 })
})

test('what was canceled while its job waited in the queue is neither begun nor put off', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  await cancel(database)
  const canceled = await row(database)
  expect(await claimDeliveries(database.sql, [delivery], options)).toHaveLength(0)
  await deferDeliveries(database.sql, [delivery], 0)
  expect(await row(database)).toEqual(canceled)
})

test('a job that comes twice, and has no turn, leaves the attempt alone that is under way', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  await claimDeliveries(database.sql, [delivery], options)
  const underWay = await row(database)
  await deferDeliveries(database.sql, [delivery], 1000)
  expect(await row(database)).toEqual(underWay)
})

test('what is put off is in nobody’s hand, and waits as long as the longest that it was put off for', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  await deferDeliveries(database.sql, [delivery], 3_600_000)
  const before = await row(database)
  expect(before).toMatchObject({ status: 'pending', attempts: 0, lease_until: null })
  await deferDeliveries(database.sql, [delivery], 0)
  expect(await row(database)).toEqual(before)
})

test('the result of an attempt that was abandoned changes nothing', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  await claimDeliveries(database.sql, [delivery], options)
  await database.sql`update attempts set outcome = 'abandoned'`
  const abandoned = await row(database)
  expect(await recordAttempts(database.sql, [succeeded(delivery, 1)])).toEqual([])
  expect(await row(database)).toEqual(abandoned)
  expect(await database.sql`select outcome from attempts`).toEqual([{ outcome: 'abandoned' }])

  await claimDeliveries(database.sql, [{ ...delivery, attempt: '2' }], options)
  await recordAttempts(database.sql, [succeeded(delivery, 1)])
  expect(await row(database)).toMatchObject({ status: 'pending', attempts: 2, lease_until: expect.any(Date) as Date })
})

test('a result that comes twice is recorded once, and one that comes after a cancel ends nothing', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  await claimDeliveries(database.sql, [delivery], options)
  await cancel(database)
  const canceled = await row(database)
  expect(await recordAttempts(database.sql, [succeeded(delivery, 1)])).toEqual([])
  expect(await row(database)).toEqual(canceled)
  await recordAttempts(database.sql, [{ ...succeeded(delivery, 1), ok: false, error: 'late', next: { kind: 'dead' } }])
  expect(await database.sql`select outcome from attempts`).toEqual([{ outcome: 'succeeded' }])
})

test('of results that come together, those that came before are not among what has ended now', async () => {
  await using database = await freshDatabase()
  const deliveries = [await oneDelivery(database, 'a'), await oneDelivery(database, 'b')]
  await claimDeliveries(database.sql, deliveries, options)
  const [first, second] = deliveries.map((delivery) => succeeded(delivery, 1))
  expect(await recordAttempts(database.sql, [first!])).toEqual([first])
  expect(await recordAttempts(database.sql, [first!, second!])).toEqual([second])
})

test('a lease is renewed for the attempt that has it, though it has run out, and not when another hand has had it', async () => {
  await using database = await freshDatabase()
  const delivery = await oneDelivery(database)
  const claimed = await claimDeliveries(database.sql, [delivery], { ...options, leaseMs: -1000 })
  const renewed = await renewLeases(database.sql, claimed, 60_000)
  expect(renewed).toHaveLength(1)
  const held = await database.sql`select from deliveries where lease_until > now() + interval '50 seconds'`
  expect(held).toHaveLength(1)

  // As a scanner does that takes it for the next attempt.
  await database.sql`update deliveries set lease_until = now() + interval '30 seconds'`
  const taken = await row(database)
  expect(await renewLeases(database.sql, renewed, 60_000)).toEqual([])
  expect(await row(database)).toEqual(taken)
})
