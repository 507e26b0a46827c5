import { randomUUIDv7 } from 'node:crypto'
import { join } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { groupOf, queuedCallback, storeJob } from '@ringback/core/callback'
import type { GroupPart } from '@ringback/core/callback'
import { loadConfig } from '@ringback/core/config'
import { connect } from '@ringback/core/store/connect'
import { cpuTimeOfGroupUs } from '../test/support/cpu-time.ts'
import { callbackBody } from './callbacks.ts'

// Measures the least that one stage of Ringback can cost: nothing but that stage, in a process of its own.
// `node floor-stage.ts xadd|dequeue|store <pid of the stage's server>` prints the microseconds of CPU for each event, of
// this process and the server together.

const EVENTS_PER_JOB = 64
const WARM_UP_JOBS = 150
const JOBS = 800
const CONCURRENCY = 8

const [stage, serverPid] = [process.argv[2]!, Number(process.argv[3])]
const stages: Record<string, () => Promise<Measured>> = { xadd, dequeue, store }

/** The work that is measured, and what comes before it. */
interface Measured {
  warmUp: () => Promise<unknown>
  work: () => Promise<unknown>
}

const { warmUp, work } = await stages[stage]!()
await warmUp()
const before = cpuUs()
await work()
const us = cpuUs()
console.log(
  JSON.stringify({
    client: (us.client - before.client) / (JOBS * EVENTS_PER_JOB),
    server: (us.server - before.server) / (JOBS * EVENTS_PER_JOB),
  }),
)
process.exit()

function cpuUs(): { client: number; server: number } {
  const { user, system } = process.cpuUsage()
  return { client: user + system, server: cpuTimeOfGroupUs(serverPid) }
}

/** XADD of each callback as the queue carries it, 64 in one round trip: a durable log and nothing more. */
async function xadd(): Promise<Measured> {
  const redis = new Redis(process.env.REDIS_URL!)
  const groups = await makeGroups()
  const add = async (count: number) => {
    for (const parts of groups.splice(0, count)) {
      const pipeline = redis.pipeline()
      for (const { json } of parts) pipeline.xadd('floor', '*', 'callback', json)
      await pipeline.exec()
    }
  }
  return { warmUp: () => add(WARM_UP_JOBS), work: () => add(JOBS) }
}

/** A BullMQ worker that does nothing with jobs of 64 callbacks. */
async function dequeue(): Promise<Measured> {
  const queue = new Queue('floor', { connection: new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null }) })
  const groups = await makeGroups()
  const fill = async (count: number) => {
    for (const parts of groups.splice(0, count)) await queue.add('store', storeJob(parts), { removeOnComplete: true })
  }
  return {
    async warmUp() {
      await fill(WARM_UP_JOBS)
      await take(WARM_UP_JOBS)
      await fill(JOBS)
    },
    work: () => take(JOBS),
  }
}

/** Takes `count` jobs off the queue. */
async function take(count: number): Promise<void> {
  const connection = new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null })
  const worker = new Worker('floor', async () => {}, { connection, concurrency: CONCURRENCY, autorun: false })
  let left = count
  const done = new Promise<void>((resolve) => worker.on('completed', () => --left === 0 && resolve()))
  void worker.run()
  await done
  await worker.close()
  connection.disconnect()
}

/** The worker's statement, into the product's own tables. */
async function store(): Promise<Measured> {
  const sql = connect(process.env.DATABASE_URL!, { max: CONCURRENCY, applicationName: 'floor' })
  const jobs = (await makeGroups()).map((parts) => groupOf(parts))
  const storeAll = async (count: number) => {
    const left = jobs.splice(0, count)
    const one = async () => {
      for (let job = left.pop(); job !== undefined; job = left.pop()) {
        const { callbacks, quarantined, dropped } = job
        await sql`select store_groups(array[${randomUUIDv7()}::uuid], ${callbacks}, ${quarantined}, ${dropped}, '[]', false)`
      }
    }
    await Promise.all(Array.from({ length: CONCURRENCY }, one))
  }
  return { warmUp: () => storeAll(WARM_UP_JOBS), work: () => storeAll(JOBS) }
}

/** Makes groups from wrk's requests as ingest does, with ingest's own code. */
async function makeGroups(): Promise<GroupPart[][]> {
  const config = await loadConfig(join(import.meta.dirname, 'handlers/none.config.ts'), process.env)
  const source = config.sources.get('voximplant')!
  const url = '/callbacks/voximplant'
  return Array.from({ length: WARM_UP_JOBS + JOBS }, (_, job) =>
    Array.from({ length: EVENTS_PER_JOB }, (_, index) => {
      const body = Buffer.from(callbackBody(job * EVENTS_PER_JOB + index))
      const headers = {
        host: '127.0.0.1:40000',
        'content-type': 'application/json',
        'content-length': String(body.length),
      }
      const header = (name: string) => headers[name as keyof typeof headers]
      const message = { method: 'POST', url, body, header, remoteAddress: '127.0.0.1', receivedAt: new Date() }
      const reading = source.read(message)
      const [callback] = reading.kind === 'read' ? reading.callbacks : []
      if (callback?.kind !== 'genuine') throw new Error('A callback of the benchmark is not genuine')
      const json = JSON.stringify(queuedCallback(callback, { source: 'voximplant', method: 'POST', url, headers }))
      return { kind: 'callbacks', json }
    }),
  )
}
