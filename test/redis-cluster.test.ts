import { expect, test } from 'vitest'
import { shardPrefix } from '@ringback/core/queue/shards'
import { expectStored, startLoad, storesMore } from './support/load.ts'
import { ingestPort, runApp } from './support/processes.ts'
import { startCluster } from './support/redis-servers.ts'
import type { OwnRedis } from './support/redis-servers.ts'
import { eventually, freshDatabase } from './support/ringback.ts'

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

async function expectShardsOnAllMasters(masters: OwnRedis[]): Promise<void> {
  const [{ client }] = masters as [OwnRedis]
  const keys = Array.from({ length: STORE_SHARDS }, (_, shard) => shardPrefix('{ringback}', shard))
  const slots = await Promise.all(keys.map((key) => client.cluster('KEYSLOT', key)))
  const ranges = await client.cluster('SLOTS')
  const used = new Set(slots.map((slot) => ranges.findIndex(([from, to]) => slot >= from && slot <= to)))
  expect(used.size).toBe(3)
}
