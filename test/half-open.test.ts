import { expect, test } from 'vitest'
import { createConsumer, createProducer } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { expectStored, startLoad, storesMore } from './support/load.ts'
import { eventually, freshDatabase, log, startIngest, startWorker } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

test('connections to the queue that are dead without a word are found, and ingest and worker go on over new ones', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  const queue = { ...database.queue, url: way.url }
  await using ingest = await startIngest(database, { queue })
  await using _worker = await startWorker(database, { queue })
  const load = startLoad(ingest.port)
  await storesMore(database, load, 100)
  way.abandon()
  await storesMore(database, load, 100)
  await load.end()
  await expectStored(database, load)
})

test('an idle consumer whose connections die without a word takes the next job all the same', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url)
  await using consumer = await startConsumer({ ...database.queue, url: way.url })
  await using ingest = await startIngest(database)
  const load = startLoad(ingest.port, { senders: 1 })
  await eventually(async () => expect(consumer.done.length).toBeGreaterThan(0))
  await load.end()
  way.abandon()
  const before = consumer.done.length
  const later = startLoad(ingest.port, { senders: 1 })
  await eventually(async () => expect(consumer.done.length).toBeGreaterThan(before))
  await later.end()
})

test('a consumer whose connection dies as it begins to listen for jobs on it listens on another', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url, { tag: /LISTEN bullmq_jobs|bzpopmin/i })
  way.freezeTagged()
  await using consumer = await startConsumer({ ...database.queue, url: way.url })
  await eventually(async () => expect(way.tagged()).toBe(1))
  way.abandon()
  await way.restore()
  const producer = createProducer(database.queue, 'store', { timeoutMs: 10_000, log })
  await producer.add('group-1', {})
  await producer.close()
  await eventually(async () => expect(consumer.done).toEqual(['group-1']))
})

test('a connection that is cut during the first command on it ends no process', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url, { tag: /min_client_version|:probe/ })
  way.freezeTagged()
  const producer = createProducer({ ...database.queue, url: way.url }, 'store', { timeoutMs: 10_000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  const probing = producer.probe()
  await eventually(async () => expect(way.tagged()).toBe(1))
  await Promise.all([expect(probing).rejects.toThrow(), way.cut()])
})

test('an add whose connection is cut fails at once, not at its time limit, and the next one goes over another', async () => {
  await using database = await freshDatabase()
  await using way = await proxyTo(database.queue.url, { tag: /group-1/ })
  // Longer than this test may take.
  const producer = createProducer({ ...database.queue, url: way.url }, 'store', { timeoutMs: 120_000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await producer.probe()
  way.freezeTagged()
  const adding = producer.add('group-1', {})
  await eventually(async () => expect(way.tagged()).toBe(1))
  await Promise.all([expect(adding).rejects.toThrow(), way.cut().then(way.restore)])
  await eventually(() => producer.add('group-2', {}))
})

test('an answer of the queue that came in time counts, although the process was held up until after its time', async () => {
  await using database = await freshDatabase()
  const producer = createProducer(database.queue, 'store', { timeoutMs: 1000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  await eventually(async () => {
    await producer.waiting()
    // The question leaves in this turn of the event loop, and the answer can be read in the next one at the earliest.
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500))
    expect(await producer.waiting()).toBe(0)
  })
})

/** A consumer that notes the jobs it is given. */
async function startConsumer(queue: QueueServer): Promise<AsyncDisposable & { done: string[] }> {
  const done: string[] = []
  const { close } = await createConsumer(
    queue,
    'store',
    { concurrency: 2, log, stopping: new AbortController().signal },
    async ({ id }) => void done.push(id),
  )
  return { done, [Symbol.asyncDispose]: close }
}
