import { expect, test } from 'vitest'
import { ingestPort, runApp, runCli } from './support/processes.ts'
import { eventually, freshDatabase, environmentFor } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

async function startBoth(environment: Record<string, string>) {
  const ingest = runApp('ingest', { ...environment, PORT: '0' })
  const worker = runApp('worker', environment)
  const port = await ingestPort(ingest)
  await worker.prints(/worker\.started/)
  return { ingest, worker, url: `http://127.0.0.1:${port}/callbacks/voximplant` }
}

interface Report {
  callbacks: { sent: number; distinct: number; duplicates: number; forged: number }
  requests: { accepted: number; refused: number; failed: number }
}

/** Plays Voximplant until everything is sent, and gives its report. */
async function send(url: string, type: string, ...options: string[]): Promise<Report> {
  const { output } = await runCli({}, '--json', 'send', 'voximplant', type, '--url', url, ...options)
  return JSON.parse(output) as Report
}

const storedAtLeast = (database: Database, count: number) =>
  eventually(async () => expect(await database.sql`select from events limit ${count}`).toHaveLength(count))

test('workers are killed and added under load: rows, duplicates and refusals are exact to the last one', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  const { ingest, worker: first, url } = await startBoth(environment)
  await using _ingest = ingest
  await using _first = first

  const options = ['--count', '10000', '--duplicates', '20%', '--forged', '10%', '--concurrency', '64']
  const sending = send(url, 'min_balance', ...options)
  await storedAtLeast(database, 500)
  await using second = runApp('worker', environment)
  await second.prints(/worker\.started/)
  first.child.kill('SIGKILL')

  expect(await sending).toMatchObject({
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
  const { ingest, worker, url } = await startBoth(await environmentFor(database))
  await using _ingest = ingest
  await using _worker = worker
  const sending = send(url, 'sms_inbound', '--count', '5000', '--concurrency', '32')
  await storedAtLeast(database, 500)
  ingest.child.kill('SIGKILL')
  const { accepted } = (await sending).requests
  await storedAtLeast(database, accepted)
  expect(await database.sql`select from events where duplicates > 0`).toHaveLength(0)
})

test('SIGTERM ends ingest and worker with 0, after what they have in hand', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  const { ingest, worker, url } = await startBoth(environment)
  await using _ingest = ingest
  await using _worker = worker
  const sending = send(url, 'sms_inbound', '--count', '2000', '--concurrency', '16')
  await storedAtLeast(database, 100)
  ingest.child.kill('SIGTERM')
  worker.child.kill('SIGTERM')
  expect(await Promise.all([ingest.ended, worker.ended])).toEqual([0, 0])

  const { accepted } = (await sending).requests
  await using _next = runApp('worker', environment)
  await storedAtLeast(database, accepted)
})
