import { Worker } from 'bullmq'
import { closeWorker, workersOn } from './consumer.ts'
import type { Consumer, ConsumerOptions, Work } from './consumer.ts'
import { createErrorLog } from './error-log.ts'
import { createPatientClient } from './redis-client.ts'
import type { RedisClient } from './redis-client.ts'
import type { QueueName, QueueServer } from './server.ts'
import { MAX_STORE_SHARDS, shardCount, shardPrefix } from './shards.ts'
import { correctInRedis, keepCorrecting } from './times-ahead.ts'

/** How often shards that nobody fills any more are searched for work. */
const FORMER_SHARDS_INTERVAL_MS = 30_000

const redisWorker = workersOn(Worker)

/** Processes the jobs of all shards, also of those that nobody fills any more. */
export async function createRedisConsumer(
  server: QueueServer & { kind: 'redis' },
  name: QueueName,
  { concurrency, log }: ConsumerOptions,
  work: Work,
): Promise<Consumer> {
  const onError = createErrorLog(log, name)
  const client = createPatientClient(server.url)
  client.on('error', onError)
  const shards = shardCount(server, name)
  const keyOf = (shard: number) => `${shardPrefix(server.prefix, shard)}:${name}`
  const workers = new Map<number, Worker>()
  let isClosing = false

  function consume(shard: number): void {
    const options = {
      concurrency: Math.ceil(concurrency / shards),
      connection: client,
      prefix: shardPrefix(server.prefix, shard),
    }
    const worker = redisWorker(name, work, options, log, onError)
    worker.run().catch(onError)
    workers.set(shard, worker)
  }

  for (let shard = 0; shard < shards; shard++) consume(shard)
  const look = () => void consumeFormerShards().catch(onError)
  const looking = name === 'store' ? setInterval(look, FORMER_SHARDS_INTERVAL_MS) : undefined
  if (looking !== undefined) look()
  const correct = (shard: number) => correctInRedis(client, keyOf(shard))
  const stopCorrecting = keepCorrecting(() => Promise.all([...workers.keys()].map(correct)), onError)

  async function consumeFormerShards(): Promise<void> {
    for (let shard = shards; shard < MAX_STORE_SHARDS; shard++) {
      if (workers.has(shard) || !(await hasWork(client, keyOf(shard)))) continue
      if (isClosing) return
      log.warn({ queue: name, shard, storeShards: shards }, 'queue.former_shard')
      consume(shard)
    }
  }

  return {
    close: async () => {
      isClosing = true
      clearInterval(looking)
      stopCorrecting()
      await Promise.all([...workers.values()].map((worker) => closeWorker(worker, client.status === 'ready')))
      client.disconnect()
    },
  }
}

/** Whether a queue holds jobs, in any state that a job of ours can be in. */
async function hasWork(client: RedisClient, queue: string): Promise<boolean> {
  return (await client.exists(`${queue}:wait`, `${queue}:active`, `${queue}:delayed`, `${queue}:prioritized`)) > 0
}
