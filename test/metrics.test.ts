import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { code } from '@ringback/core/handlers'
import { createRegistry } from '@ringback/core/metrics'
import { configFileWith, ingestPort, runApp } from './support/processes.ts'
import type { RunningProcess } from './support/processes.ts'
import {
  aCallback,
  configWith,
  environmentFor,
  eventually,
  freshDatabase,
  postCallbacks,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

const handlers = `[
  { name: 'works', run: code(() => {}), limits: { concurrency: 5 } },
  { name: 'fails', on: { type: 'min_balance' }, run: code(() => { throw new Error('no') }), retry: { maxAttempts: 1 } },
]`

const numberIn = async (app: RunningProcess, expression: RegExp) => Number((await app.prints(expression))[1])

/** The samples of a scrape by name and labels, without those of Node. */
async function scrape(port: number): Promise<Record<string, number>> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  const text = await response.text()
  expect(text).toContain('process_cpu_seconds_total')
  expect(text).toContain('nodejs_eventloop_lag_seconds')
  const lines = text.split('\n').filter((line) => line.startsWith('ringback_'))
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  )
}

const opsPort = /"port":(\d+),"msg":"operators\.listening"/

/** The port of a worker that has started: the port itself opens before. */
async function opsPortOf(worker: RunningProcess): Promise<number> {
  await worker.prints(/worker\.started/)
  return numberIn(worker, opsPort)
}

test('ingest and worker count on /metrics just what they did', async () => {
  await using database = await freshDatabase()
  // As the worker itself makes it a few seconds after the first attempt: without limits there is no state.
  await database.sql`insert into destinations (handler, limited) values ('fails', false)`
  const environment = { ...(await environmentFor(database)), LOG_LEVEL: 'info' }
  await using file = await configFileWith(handlers)
  await using ingest = runApp('ingest', { ...environment, RINGBACK_CONFIG: file.path, PORT: '0' })
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path })
  const port = await ingestPort(ingest)
  const [ofIngest, ofWorker] = await Promise.all([numberIn(ingest, opsPort), opsPortOf(worker)])

  for (let id = 1; id <= 4; id++) await postCallbacks({ port }, aCallback(id))
  await postCallbacks({ port }, aCallback(5, { type: 'min_balance' }), aCallback(6, { type: 'unheard-of' }))
  await postCallbacks({ port }, aCallback(1))
  await postCallbacks({ port }, aCallback(7, { hash: 'f'.repeat(32) }))
  await fetch(`http://127.0.0.1:${port}/callbacks/made-up`, { method: 'POST', body: '{}' })

  expect(await scrape(ofIngest)).toMatchObject({
    'ringback_ingest_requests_total{source="voximplant",outcome="accepted"}': 6,
    'ringback_ingest_requests_total{source="voximplant",outcome="forged"}': 1,
    'ringback_ingest_requests_total{source="",outcome="unknown_source"}': 1,
    'ringback_ingest_refusals_total{source="voximplant",reason="hash_mismatch"}': 1,
    'ringback_ingest_ack_duration_seconds_count{source="voximplant"}': 6,
    ringback_ingest_group_size_sum: 8,
    ringback_ingest_group_size_count: 7,
  })
  await eventually(async () => {
    const samples = await scrape(ofWorker)
    expect(samples).toMatchObject({
      ringback_events_stored_total: 6,
      ringback_duplicates_total: 1,
      'ringback_quarantined_total{reason="hash_mismatch"}': 1,
      'ringback_delivery_attempts_total{handler="works",outcome="succeeded"}': 6,
      'ringback_delivery_attempts_total{handler="fails",outcome="failed"}': 1,
      'ringback_deliveries_total{handler="works",status="succeeded"}': 6,
      'ringback_deliveries_total{handler="fails",status="dead"}': 1,
      'ringback_delivery_attempt_duration_seconds_count{handler="works"}': 6,
      'ringback_destination_state{handler="works",state="closed"}': 1,
      'ringback_destination_state{handler="works",state="open"}': 0,
      'ringback_destination_consecutive_failures{handler="works"}': 0,
      'ringback_destination_consecutive_failures{handler="fails"}': 1,
      'ringback_deliveries_pending{handler="works"}': 0,
      'ringback_deliveries_oldest_due_age_seconds{handler="works"}': 0,
      'ringback_queue_jobs{queue="store",state="waiting"}': 0,
      'ringback_queue_jobs{queue="deliveries",state="waiting"}': 0,
      'ringback_queue_oldest_job_age_seconds{queue="store"}': 0,
    })
    expect(samples).not.toHaveProperty(['ringback_destination_state{handler="fails",state="closed"}'])
    // One for each transaction, which may have stored several of the seven groups; one group has no callback.
    expect(samples.ringback_worker_store_duration_seconds_count).toSatisfy((count) => count >= 1 && count <= 7)
    expect(samples.ringback_received_to_stored_seconds_count).toSatisfy((count) => count >= 1 && count <= 6)
    expect(samples.ringback_canary_age_seconds).toBeLessThan(60)
    expect(samples.ringback_received_to_stored_seconds_sum).toBeLessThan(60)
    expect(Object.keys(samples).filter((name) => /unheard|made-up/.test(name))).toEqual([])
  })
})

test('what the rules of metrics.md look at is there from the start, so that the first of a kind is an increase', async () => {
  const page = readFileSync(join(import.meta.dirname, '../docs/metrics.md'), 'utf8')
  const selectors = [...page.matchAll(/\b(ringback_\w+)\{(\w+)=~?"([a-z_|]+)"\}/g)].map(([, name, label, values]) => ({
    name: name!,
    label: label!,
    values: values!.split('|'),
  }))
  const counted = (name: string) =>
    selectors.filter((selector) => selector.name === name).flatMap(({ values }) => values)

  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using file = await configFileWith(handlers)
  await using ingest = runApp('ingest', { ...environment, LOG_LEVEL: 'info', RINGBACK_CONFIG: file.path, PORT: '0' })
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path })
  const [ofIngest, ofWorker] = await Promise.all([numberIn(ingest, opsPort), opsPortOf(worker)])
  const [atIngest, atWorker] = [await scrape(ofIngest), await scrape(ofWorker)]

  const outcomes = counted('ringback_ingest_requests_total')
  // All that may lose a callback of a known source, and `accepted` to compare with.
  const ofSource = Object.keys(atIngest).flatMap((key) => /\{source="voximplant",outcome="(\w+)"/.exec(key)?.[1] ?? [])
  expect([...new Set(outcomes)].toSorted()).toEqual(ofSource.filter((outcome) => outcome !== 'client_gone').toSorted())
  for (const outcome of outcomes)
    expect(atIngest).toHaveProperty([`ringback_ingest_requests_total{source="voximplant",outcome="${outcome}"}`], 0)
  expect(page).toContain('increase(ringback_groups_postponed_total[')
  for (const reason of ['not_stored', 'unreadable'])
    expect(atWorker).toHaveProperty([`ringback_groups_postponed_total{reason="${reason}"}`], 0)
  expect(counted('ringback_deliveries_total')).toEqual(['dead'])
  // As the alerts destination_open and destination_disabled: half_open too, where one delivery tries and the others wait.
  const states = Object.keys(atWorker).flatMap((key) => /_state\{handler="works",state="(\w+)"/.exec(key)?.[1] ?? [])
  expect(counted('ringback_destination_state')).toEqual(states.filter((state) => state !== 'closed'))
  for (const handler of ['works', 'fails']) {
    for (const status of ['succeeded', 'dead'])
      expect(atWorker).toHaveProperty([`ringback_deliveries_total{handler="${handler}",status="${status}"}`], 0)
    for (const outcome of ['succeeded', 'failed'])
      expect(atWorker).toHaveProperty(
        [`ringback_delivery_attempts_total{handler="${handler}",outcome="${outcome}"}`],
        0,
      )
  }
})

test('a handler that has gone from the configuration has no state of a destination', async () => {
  await using database = await freshDatabase()
  const handler = (name: string) => ({ name, run: code(() => {}), limits: {} })
  {
    const config = configWith({ handlers: [handler('stays'), handler('gone')] })
    await using _before = await startWorker(database, { config })
  }
  await database.sql`update destinations set state = 'disabled'`
  const registry = createRegistry()
  await using _after = await startWorker(database, { config: configWith({ handlers: [handler('stays')] }), registry })
  const text = await registry.metrics()
  expect(text).toContain('ringback_destination_state{handler="stays",state="disabled"} 1')
  expect(text).not.toContain('handler="gone"')
})

test('what waits in the queue is seen, with its age', async () => {
  await using database = await freshDatabase()
  const environment = await environmentFor(database)
  await using file = await configFileWith(handlers)
  await using ingest = runApp('ingest', { ...environment, RINGBACK_CONFIG: file.path, PORT: '0' })
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path, WORKER_CONCURRENCY: '1' })
  const port = await ingestPort(ingest)
  const ofWorker = await opsPortOf(worker)
  // Storing waits for this lock, so that the second job and the third have to wait for the first.
  await using lock = await lockEvents(database)
  await postCallbacks({ port }, aCallback(1))
  await eventually(async () => expect(await waitingForLocks(database)).toBe(1))
  for (const id of [2, 3]) await postCallbacks({ port }, aCallback(id))
  await eventually(async () => {
    const samples = await scrape(ofWorker)
    // With the canaries of that time.
    expect(samples['ringback_queue_jobs{queue="store",state="active"}']).toBeGreaterThanOrEqual(1)
    expect(samples['ringback_queue_jobs{queue="store",state="waiting"}']).toBeGreaterThanOrEqual(2)
    const age = samples['ringback_queue_oldest_job_age_seconds{queue="store"}']
    expect(age).toBeGreaterThan(0)
    expect(age).toBeLessThan(60)
  }, 15_000)
  await lock.release()
  await eventually(async () =>
    expect(await scrape(ofWorker)).toMatchObject({ 'ringback_queue_jobs{queue="store",state="waiting"}': 0 }),
  )
})

test('deliveries that have not ended are counted by handler, with the age of what is due, not of what is to come', async () => {
  await using database = await freshDatabase()
  const registry = createRegistry()
  const handlers = ['late', 'later', 'none'].map((name) => ({ name, run: code(() => {}) }))
  await using _worker = await startWorker(database, { config: configWith({ handlers }), registry })
  // Their leases never end, so nobody runs them.
  const insert = (handler: string, count: number, due: string) => database.sql`
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at, lease_until)
    select uuidv7(), now(), ${handler}, now() + ${due}::interval, 'infinity' from generate_series(1, ${count}::integer)`
  await insert('late', 10_001, '-1 hour')
  await insert('later', 2, '1 hour')
  await eventually(async () => {
    const text = await registry.metrics()
    expect(text).toContain('ringback_deliveries_pending{handler="late"} 10000')
    expect(text).toContain('ringback_deliveries_pending{handler="later"} 2')
    expect(text).toContain('ringback_deliveries_pending{handler="none"} 0')
    expect(text).toMatch(/ringback_deliveries_oldest_due_age_seconds\{handler="late"\} 36\d\d/)
    expect(text).toContain('ringback_deliveries_oldest_due_age_seconds{handler="later"} 0')
    expect(text).toContain('ringback_deliveries_oldest_due_age_seconds{handler="none"} 0')
  })
})

test('/metrics answers while Postgres is frozen', async () => {
  await using database = await freshDatabase()
  await using proxy = await proxyTo(database.url)
  const environment = { ...(await environmentFor(database)), DATABASE_URL: proxy.url }
  await using file = await configFileWith(handlers)
  await using worker = runApp('worker', { ...environment, RINGBACK_CONFIG: file.path })
  const ofWorker = await opsPortOf(worker)
  await eventually(async () =>
    expect(await scrape(ofWorker)).toHaveProperty(['ringback_destination_state{handler="works",state="closed"}'], 1),
  )
  proxy.freeze()
  await eventually(async () => {
    const startedAt = performance.now()
    const samples = await scrape(ofWorker)
    expect(performance.now() - startedAt).toBeLessThan(5000)
    expect(Object.keys(samples).filter((name) => name.startsWith('ringback_destination_state{'))).toEqual([])
    expect(samples).toHaveProperty('ringback_events_stored_total', 0)
  })
})

/** Transactions of the worker that cannot go on. */
async function waitingForLocks({ sql }: Database): Promise<number> {
  const waiting = await sql`
    select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%store_groups%'`
  return waiting.length
}

/** Nothing can be stored until `release`. */
async function lockEvents({ sql }: Database): Promise<{ release: () => Promise<void> } & AsyncDisposable> {
  const locked = Promise.withResolvers<void>()
  const end = Promise.withResolvers<void>()
  const transaction = sql.begin(async (own) => {
    await own`lock table event_names in exclusive mode`
    locked.resolve()
    await end.promise
  })
  await Promise.race([locked.promise, transaction])
  const release = async () => {
    end.resolve()
    await transaction
  }
  return { release, [Symbol.asyncDispose]: release }
}
