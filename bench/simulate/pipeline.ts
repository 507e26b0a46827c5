import { quantile } from '../statistics.ts'
import type { Costs } from './costs.ts'
import { createTimeline } from './timeline.ts'
import type { Timeline } from './timeline.ts'

/** What runs, each process on a core of its own. */
export interface Layout {
  ingests: number
  workers: number
  /** The number of Redis servers, each with its share of the store queue. */
  shards: number
  /** The number of cores of the one Postgres. */
  postgresCores: number
}

export interface Latencies {
  /** Time from a request to its answer, in milliseconds. */
  ack: { p50: number; p99: number }
  /** Time from a request until its event is stored, in milliseconds. */
  stored: { p50: number; p99: number }
}

/** The same numbers as in apps/ingest/src/enqueue.ts and apps/worker/src/worker.ts. */
const MAX_GROUP = 500
const JOBS_PER_WORKER = 8
/** The share of the add in what a job costs Redis. The rest is taking and completing it. */
const ADD_SHARE = 0.5

const US = 1e-6

/**
 * Simulates requests of one callback that arrive at random, `rate` a second for `seconds`, and take the path of callbacks.
 * Each ingest has one group in flight and gathers meanwhile. Redis serves all that waits with one fsync. A worker has up to
 * eight groups in hand. Postgres has its cores, and a commit waits for the disk. Networks cost nothing, and there are no
 * handlers.
 */
export function simulate(
  layout: Layout,
  costs: Costs,
  { rate, seconds, random }: { rate: number; seconds: number; random: () => number },
): Latencies {
  const time = createTimeline()
  const { ingest, worker, redis, postgres } = costs.stages
  const fsync = costs.fsyncMs / 1000
  const acks: number[] = []
  const stores: number[] = []

  const servers = Array.from({ length: layout.shards }, () => createRedis(time, fsync))
  const database = createCores(time, layout.postgresCores)
  const workers = Array.from({ length: layout.workers }, () => ({ cpu: createCores(time, 1), jobs: 0 }))
  const queue: { group: number[]; shard: number }[] = []
  let nextShard = 0

  function startIngest(): (arrivedAt: number) => void {
    const cpu = createCores(time, 1)
    let pending: number[] = []
    let inFlight = false
    function flush(): void {
      if (inFlight || pending.length === 0) return
      inFlight = true
      const group = pending.slice(0, MAX_GROUP)
      pending = pending.slice(MAX_GROUP)
      const shard = nextShard++ % layout.shards
      cpu.run(ingest.group * US, () => {
        servers[shard]!((redis.group + redis.event * group.length) * ADD_SHARE * US, () => {
          for (const arrivedAt of group) acks.push(time.now() - arrivedAt)
          queue.push({ group, shard })
          consume()
          inFlight = false
          flush()
        })
      })
    }
    return (arrivedAt) =>
      cpu.run(ingest.event * US, () => {
        pending.push(arrivedAt)
        flush()
      })
  }

  function consume(): void {
    const free = workers.toSorted((a, b) => a.jobs - b.jobs)[0]!
    if (free.jobs >= JOBS_PER_WORKER || queue.length === 0) return
    const { group, shard } = queue.shift()!
    free.jobs += 1
    servers[shard]!((redis.group + redis.event * group.length) * (1 - ADD_SHARE) * US, () =>
      free.cpu.run((worker.group + worker.event * group.length) * US, () =>
        database.run((postgres.group + postgres.event * group.length) * US, () =>
          time.after(fsync, () => {
            for (const arrivedAt of group) stores.push(time.now() - arrivedAt)
            free.jobs -= 1
            consume()
          }),
        ),
      ),
    )
  }

  const ingests = Array.from({ length: layout.ingests }, startIngest)
  function arrive(): void {
    if (time.now() > seconds) return
    ingests[Math.floor(random() * ingests.length)]!(time.now())
    time.after(-Math.log(1 - random()) / rate, arrive)
  }
  arrive()
  time.run()
  return { ack: inMs(acks), stored: inMs(stores) }
}

function inMs(seconds: number[]): { p50: number; p99: number } {
  return { p50: quantile(seconds, 0.5) * 1000, p99: quantile(seconds, 0.99) * 1000 }
}

/** `count` cores with one queue of work in front of them. */
function createCores(time: Timeline, count: number): { run: (seconds: number, done: () => void) => void } {
  const line: { seconds: number; done: () => void }[] = []
  let busy = 0
  function next(): void {
    if (busy === count || line.length === 0) return
    const { seconds, done } = line.shift()!
    busy += 1
    time.after(seconds, () => {
      busy -= 1
      done()
      next()
    })
  }
  return {
    run(seconds, done) {
      line.push({ seconds, done })
      next()
    },
  }
}

/** A Redis that takes all that waits at once, and answers when one fsync for all of it is done. */
function createRedis(time: Timeline, fsync: number): (seconds: number, done: () => void) => void {
  let waiting: { seconds: number; done: () => void }[] = []
  let isBusy = false
  function next(): void {
    if (isBusy || waiting.length === 0) return
    isBusy = true
    const batch = waiting
    waiting = []
    time.after(
      batch.reduce((sum, { seconds }) => sum + seconds, fsync),
      () => {
        isBusy = false
        for (const { done } of batch) done()
        next()
      },
    )
  }
  return (seconds, done) => {
    waiting.push({ seconds, done })
    next()
  }
}
