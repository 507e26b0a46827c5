import { withTimeout } from '../with-timeout.ts'
import { lazily } from '../lazily.ts'
import type { Lazy } from '../lazily.ts'
import { createErrorLog } from './error-log.ts'
import { createFastClient } from './redis-client.ts'
import type { Producer, QueueState, ProducerOptions } from './producer.ts'
import { queueOptions, stateOf } from './producer.ts'
import { connectRedisShard } from './redis-shard.ts'
import type { RedisShard } from './redis-shard.ts'
import type { QueueName, QueueServer } from './server.ts'
import { shardCount, shardPrefix } from './shards.ts'

/** A shard, connected at its first use. */
interface LazyShard extends Lazy<RedisShard> {
  /** Whether the last operation on it failed. */
  isDown: boolean
}

/** How often a shard that is down is probed. */
const RECHECK_INTERVAL_MS = 500

/** Adds jobs to the shards in turn. A shard whose server is down or full is left out until it takes writes again. */
export function createRedisProducer<Data extends object>(
  server: QueueServer & { kind: 'redis' },
  name: QueueName,
  { timeoutMs, log }: ProducerOptions,
): Producer<Data> {
  const onError = createErrorLog(log, name)
  const client = lazily(async () => {
    const made = createFastClient(server.url, timeoutMs)
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
  let turn = 0
  let rechecking: NodeJS.Timeout | undefined

  function createShard(number: number): LazyShard {
    const shard = lazily(async () =>
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
    return { ...shard, isDown: false }
  }

  const tooSlow = `the ${name} queue did not answer within ${timeoutMs} ms`
  const within = <Result>(work: Promise<Result>, ms: number) => withTimeout(work, ms, tooSlow)

  type Work = (shard: RedisShard) => Promise<void>
  /** Does the work on the only shard. Nearly every installation has just one. */
  const onOnly = (work: Work) => within(shards[0]!.get().then(work), timeoutMs)

  /** Does the work on the next shard in turn that is not down, and if that fails on the one after, while time is left. */
  async function onNext(work: Work): Promise<void> {
    const deadline = performance.now() + timeoutMs
    turn = (turn + 1) % shards.length
    const inTurn = [...shards.slice(turn), ...shards.slice(0, turn)]
    const present = inTurn.filter(({ isDown }) => !isDown)
    let cause: unknown
    for (const shard of present.length > 0 ? present : inTurn) {
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) break
      try {
        await within(shard.get().then(work), Math.min(tryMs, leftMs))
        shard.isDown = false
        return
      } catch (error) {
        cause = error
        leaveOut(shard)
      }
    }
    throw cause
  }

  const onOne = isSharded ? onNext : onOnly

  function leaveOut(shard: LazyShard): void {
    shard.isDown = true
    rechecking ??= setInterval(recheck, RECHECK_INTERVAL_MS).unref()
  }

  function recheck(): void {
    const down = shards.filter(({ isDown }) => isDown)
    if (down.length === 0) {
      clearInterval(rechecking)
      rechecking = undefined
    }
    for (const shard of down) {
      within(
        shard.get().then(({ probe }) => probe()),
        tryMs,
      ).then(
        () => (shard.isDown = false),
        () => {},
      )
    }
  }

  const onAll = <Result>(work: (shard: RedisShard) => Promise<Result>) =>
    within(Promise.all(shards.map((shard) => shard.get().then(work))), timeoutMs)

  return {
    add: (id, data) => onOne((shard) => shard.add(id, data)),
    probe: () => onOne((shard) => shard.probe()),
    hasRoom: async () => (await onAll((shard) => shard.hasRoom())).every(Boolean),
    async detectLoss() {
      const losses = (await onAll((shard) => shard.detectLoss())).filter((loss) => loss !== undefined)
      return losses.length > 0 ? losses.join('; ') : undefined
    },
    identity: async () => (await onAll((shard) => shard.identity())).join(','),
    waiting: async () => sum(await onAll(({ queue }) => queue.getWaitingCount())),
    state: async () =>
      total(
        await onAll(({ queue }) =>
          stateOf(queue, async () => (await queue.getJobs(['waiting'], 0, 0, true))[0]?.timestamp),
        ),
      ),
    async close() {
      clearInterval(rechecking)
      await Promise.allSettled(shards.map(async ({ current }) => (await current())?.close()))
      const made = await client.current()
      made?.disconnect()
    },
  }
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)

function total(states: QueueState[]): QueueState {
  return {
    waiting: sum(states.map(({ waiting }) => waiting)),
    active: sum(states.map(({ active }) => active)),
    oldestAgeMs: Math.max(...states.map(({ oldestAgeMs }) => oldestAgeMs)),
  }
}
