import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createConsumer, createProducer } from '@ringback/core/queue'
import { shardPrefix } from '@ringback/core/queue/shards'
import { expectStored, startLoad, storesMore } from './support/load.ts'
import { ingestPort, runApp } from './support/processes.ts'
import { startCluster } from './support/redis-servers.ts'
import type { OwnRedis } from './support/redis-servers.ts'
import { eventually, freshDatabase, log } from './support/ringback.ts'

const STORE_SHARDS = 6

test('a master of the cluster is killed under load: nothing acknowledged is lost, and everything goes on by itself', async () => {
  await using cluster = await startCluster()
  await using database = await freshDatabase()
  const environment = {
    DATABASE_URL: database.url,
    REDIS_URL: cluster.url,
    STORE_SHARDS: String(STORE_SHARDS),
    REDIS_WAIT_REPLICAS: '1',
  }
  await using ingest = runApp('ingest', { ...environment, PORT: '0' })
  await using worker = runApp('worker', environment)
  const port = await ingestPort(ingest)
  await worker.prints(/worker\.started/)
  const load = startLoad(port)
  await storesMore(database, load, 500)
  await expectShardsOnAllMasters(await cluster.masters())

  const [victim] = await cluster.masters()
  await victim!.stop()
  await eventually(async () => {
    expect(await cluster.masters()).toHaveLength(3)
  })
  await storesMore(database, load, 500)
  await load.end()
  await expectStored(database, load)
  expect(ingest.child.exitCode).toBe(null)
  expect(worker.child.exitCode).toBe(null)
}, 120_000)

test('while a master is frozen, each add goes to another within its time, however many shards there are', async () => {
  await using cluster = await startCluster()
  const queue = { kind: 'redis', url: cluster.url, prefix: '{ringback}', storeShards: 8 } as const
  const producer = createProducer(queue, 'store', { timeoutMs: 2000, log })
  await using _closing = { [Symbol.asyncDispose]: producer.close }
  let added = 0
  // At once, because the cluster soon gives up a master that is frozen, and takes nothing until another is in its place.
  const addToEach = () => Promise.all(Array.from({ length: 8 }, () => producer.add(`group-${(added += 1)}`, {})))
  await addToEach()
  const [frozen] = await cluster.masters()
  frozen!.kill('SIGSTOP')
  await addToEach()
}, 120_000)

test('what connects to the cluster while a part of it is down, for the first time or anew, goes on when that is back', async () => {
  await using cluster = await startCluster()
  const queue = { kind: 'redis', url: cluster.url, prefix: '{ringback}' } as const
  const taken: string[] = []
  const { signal: stopping } = new AbortController()
  const consumer = await createConsumer(
    queue,
    'store',
    { concurrency: 1, log, stopping },
    async ({ id }) => void taken.push(id),
  )
  await using _closing = { [Symbol.asyncDispose]: consumer.close }
  const [master] = await cluster.masters()
  const part = await withReplicas(master!, cluster.nodes)
  await Promise.all(part.map((node) => node.stop()))
  const rest = cluster.nodes.find((node) => !part.includes(node))!
  await eventually(async () => expect(await rest.client.cluster('INFO')).toContain('cluster_state:fail'))
  const producer = createProducer(queue, 'store', { timeoutMs: 500, log })
  await using _closingProducer = { [Symbol.asyncDispose]: producer.close }
  await expect(producer.add('group-1', {})).rejects.toThrow()
  await sleep(8000) // a consumer connects anew when it has waited for a job for 6 s

  await Promise.all(part.map((node) => node.restart()))
  await eventually(() => producer.add('group-2', {}))
  await eventually(async () => expect(taken).toContain('group-2'))
}, 120_000)

/** A master, and those of `nodes` that follow it. */
async function withReplicas(master: OwnRedis, nodes: OwnRedis[]): Promise<OwnRedis[]> {
  const replications = await Promise.all(nodes.map(({ client }) => client.info('replication')))
  return [master, ...nodes.filter((_, index) => replications[index]!.includes(`master_port:${master.port}`))]
}

async function expectShardsOnAllMasters(masters: OwnRedis[]): Promise<void> {
  const [{ client }] = masters as [OwnRedis]
  const keys = Array.from({ length: STORE_SHARDS }, (_, shard) => shardPrefix('{ringback}', shard))
  const slots = await Promise.all(keys.map((key) => client.cluster('KEYSLOT', key)))
  const ranges = await client.cluster('SLOTS')
  const used = new Set(slots.map((slot) => ranges.findIndex(([from, to]) => slot >= from && slot <= to)))
  expect(used.size).toBe(3)
}
