import { expect, inject, test } from 'vitest'
import { eventually, freshDatabase } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { runApp, runCli } from './support/processes.ts'
import { Redis } from 'ioredis'

/** Processes know no queue prefix, so on Redis each test takes a database of the server for itself. */
async function environmentFor(database: Database, redisDatabase: number): Promise<Record<string, string>> {
  if (inject('queue') === 'postgres') return { DATABASE_URL: database.url }
  const url = `${inject('redisUrl')}/${redisDatabase}`
  const redis = new Redis(url)
  await redis.flushdb()
  redis.disconnect()
  return { DATABASE_URL: database.url, REDIS_URL: url }
}

test('workers are killed and added under load: rows, duplicates and refusals are exact to the last one', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database, 1)
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  await using first = runApp('worker', environment)
  const [, port] = await ingest.prints(/"port":(\d+),"sources"/)
  await first.prints(/worker\.started/)

  const sending = runCli(
    {},
    '--json',
    'send',
    'voximplant',
    'min_balance',
    '--url',
    `http://127.0.0.1:${port}/callbacks/voximplant`,
    '--count',
    '10000',
    '--duplicates',
    '20%',
    '--forged',
    '10%',
    '--concurrency',
    '64',
  )
  await eventually(async () => expect((await database.sql`select from events limit 500`).length).toBe(500))
  await using second = runApp('worker', environment)
  await second.prints(/worker\.started/)
  first.child.kill('SIGKILL')

  const report = JSON.parse((await sending).output) as {
    callbacks: Record<string, number>
    requests: Record<string, number>
  }
  expect(report).toMatchObject({
    callbacks: { sent: 10_000, distinct: 7000, duplicates: 2000, forged: 1000 },
    requests: { accepted: 9000, refused: 1000, failed: 0 },
  })
  await eventually(async () => {
    const [row] = await database.sql`
      select
        (select count(*)::integer from events) as events,
        (select sum(duplicates)::integer from events) as duplicates,
        (select count(*)::integer from quarantine) + (select coalesce(sum(count), 0)::integer from quarantine_dropped) as refused,
        (select count(*)::integer from deliveries) as deliveries,
        (select count(*)::integer from deliveries where status = 'succeeded') as succeeded`
    expect(row).toEqual({ events: 7000, duplicates: 2000, refused: 1000, deliveries: 7000, succeeded: 7000 })
  }, 90_000)
  // Only what was running when the worker was killed ran a second time.
  const [row] = await database.sql`
    select count(*)::integer as abandoned, (select count(*)::integer from attempts) - 7000 as more from attempts where outcome = 'abandoned'`
  expect(row!.more).toBe(row!.abandoned)
}, 120_000)

test('an ingest that is killed has lost nothing that it acknowledged', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database, 2)
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  const [, port] = await ingest.prints(/"port":(\d+),"sources"/)
  const sending = runCli(
    {},
    '--json',
    'send',
    'voximplant',
    'sms_inbound',
    '--url',
    `http://127.0.0.1:${port}/callbacks/voximplant`,
    '--count',
    '5000',
    '--concurrency',
    '32',
  )
  await ingest.prints(/ingest\.listening/)
  await new Promise((resolve) => setTimeout(resolve, 1000))
  ingest.child.kill('SIGKILL')
  const { accepted } = (JSON.parse((await sending).output) as { requests: { accepted: number } }).requests
  await using worker = runApp('worker', environment)
  await worker.prints(/worker\.started/)
  await eventually(async () => {
    const [row] =
      await database.sql`select count(*)::integer as events, coalesce(sum(duplicates), 0)::integer as duplicates from events`
    expect(row!.events).toBeGreaterThanOrEqual(accepted)
    expect(row!.duplicates).toBe(0)
  })
})

test('SIGTERM ends ingest and worker with 0, after what they have in hand', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database, 3)
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  await using worker = runApp('worker', environment)
  const [, port] = await ingest.prints(/"port":(\d+),"sources"/)
  await worker.prints(/worker\.started/)
  const sending = runCli(
    {},
    '--json',
    'send',
    'voximplant',
    'sms_inbound',
    '--url',
    `http://127.0.0.1:${port}/callbacks/voximplant`,
    '--count',
    '2000',
    '--concurrency',
    '16',
  )
  await eventually(async () => expect((await database.sql`select from events limit 100`).length).toBe(100))
  ingest.child.kill('SIGTERM')
  worker.child.kill('SIGTERM')
  expect(await Promise.all([ingest.ended, worker.ended])).toEqual([0, 0])

  const { accepted } = (JSON.parse((await sending).output) as { requests: { accepted: number } }).requests
  await using next = runApp('worker', environment)
  await next.prints(/worker\.started/)
  await eventually(async () => {
    const [row] = await database.sql`select count(*)::integer as events from events`
    expect(row!.events).toBeGreaterThanOrEqual(accepted)
  })
})
