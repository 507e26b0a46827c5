import { withTimeout } from '../with-timeout.ts'
import { lazily } from '../lazily.ts'
import type { Lazy } from '../lazily.ts'
import { createErrorLog } from './error-log.ts'
import { createTellLosses } from './loss.ts'
import { createFastClient } from './redis-client.ts'
import type { RedisClient } from './redis-client.ts'
import type { Producer, QueueState, ProducerOptions } from './producer.ts'
import { countWaiting, queueOptions, stateOf } from './producer.ts'
import { connectRedisShard } from './redis-shard.ts'
import type { RedisShard } from './redis-shard.ts'
import { createRotation } from './rotation.ts'
import type { QueueName, QueueServer } from './server.ts'
import { shardCount, shardPrefix, shardsBySlot } from './shards.ts'

type Work<Result> = (shard: RedisShard) => Promise<Result>

/** Adds jobs to the shards in turn. A shard whose server is down or full is left out until it takes writes again. */
export function createRedisProducer<Data extends object>(
  server: QueueServer & { kind: 'redis' },
  name: QueueName,
  { timeoutMs, log }: ProducerOptions,
): Producer<Data> {
  const onError = createErrorLog(log, name)
  /** Connected or not. */
  let latest: RedisClient | undefined
  const client = lazily(async () => {
    const made = createFastClient(server.url, timeoutMs)
    latest = made
    made.on('error', onError)
    try {
      await made.connect()
      return made
    } catch (error) {
      made.disconnect()
      throw error
    }
  })
  const shards = Array.from({ length: shardCount(server, name) }, (_, number) => createShard(number))
  const isSharded = shards.length > 1
  // A frozen server must leave time to try another.
  const tryMs = isSharded ? timeoutMs / 2 : timeoutMs
  const rotation = createRotation(
    shardsBySlot(server.prefix, shards.length).map((number) => shards[number]!),
    (shard) => on(shard, ({ probe }) => probe(), tryMs),
  )

  /** It is connected at its first use. */
  function createShard(number: number): Lazy<RedisShard> {
    return lazily(async () =>
      connectRedisShard({
        client: await client.get(),
        name,
        prefix: shardPrefix(server.prefix, number),
        queueOptions: queueOptions(name),
        waitReplicas: server.waitReplicas ?? 0,
        timeoutMs: tryMs,
        onError,
      }),
    )
  }

  const on = <Result>(shard: Lazy<RedisShard>, work: Work<Result>, ms: number) =>
    withTimeout(shard.get().then(work), ms, `the ${name} queue did not answer within ${timeoutMs} ms`)

  /** Does the work on the only shard. Nearly every installation has just one. */
  const onOnly = (work: Work<void>) => on(shards[0]!, work, timeoutMs)

  /** Does the work on the shard whose turn it is, and if that fails on another, while time is left. */
  async function onNext(work: Work<void>): Promise<void> {
    const deadline = performance.now() + timeoutMs
    let cause: unknown
    for (const shard of rotation.next()) {
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) break
      try {
        await on(shard, work, Math.min(tryMs, leftMs))
        rotation.takeBack(shard)
        return
      } catch (error) {
        cause = error
        rotation.leaveOut(shard)
      }
    }
    throw cause
  }

  const onOne = isSharded ? onNext : onOnly
  const onAll = <Result>(work: Work<Result>) => Promise.all(shards.map((shard) => on(shard, work, timeoutMs)))

  return {
    add: (id, data) => onOne((shard) => shard.add(id, data)),
    probe: () => onOne((shard) => shard.probe()),
    memoryUsage: async () => Math.max(...(await onAll((shard) => shard.memoryUsage()))),
    detectLoss: createTellLosses((onLoss) => onAll(({ detectLoss }) => detectLoss().then(onLoss))),
    identity: async () => (await onAll((shard) => shard.identity())).join(','),
    waiting: async () => sum(await onAll(({ queue }) => countWaiting(queue))),
    state: async () =>
      total(
        await onAll(({ queue }) =>
          stateOf(queue, async () => (await queue.getJobs(['waiting'], 0, 0, true))[0]?.timestamp),
        ),
      ),
    async close() {
      rotation.close()
      // First, because shards wait for it, and it asks sentinels that are down without end.
      latest?.disconnect()
      await Promise.allSettled(shards.map(async ({ current }) => (await current())?.close()))
    },
  }
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)

function total(states: QueueState[]): QueueState {
  return {
    waiting: sum(states.map(({ waiting }) => waiting)),
    active: sum(states.map(({ active }) => active)),
    oldestAgeMs: Math.max(...states.map(({ oldestAgeMs }) => oldestAgeMs)),
    isPaused: states.some(({ isPaused }) => isPaused),
  }
}
