import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { createConsumer, createProducer, PostponedError } from '@ringback/core/queue'
import type { QueueJob } from '@ringback/core/queue'
import { eventually, freshDatabase, keptLog, log } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { openStoreQueue } from './support/store-queue.ts'

/** A queue with `count` jobs in it, named 0, 1, 2 and so on. */
async function filledQueue({ queue }: Database, count: number) {
  const producer = createProducer<object>(queue, 'store', { timeoutMs: 5000, log })
  for (let index = 0; index < count; index++) await producer.add(`group-${index}`, { text: String(index) })
  return { ...producer, [Symbol.asyncDispose]: producer.close }
}

async function consume(
  { queue }: Database,
  processRound: (jobs: QueueJob[]) => Promise<void>[],
  { concurrency = 2, intervalMs = 5, log: ownLog = log } = {},
) {
  const options = { concurrency, log: ownLog, stopping: new AbortController().signal }
  const consumer = await createConsumer(queue, 'store', options, { intervalMs, processRound })
  return { ...consumer, [Symbol.asyncDispose]: consumer.close }
}

const namesOf = (rounds: readonly QueueJob[][]) => rounds.flat().map(({ id }) => Number(id.slice('group-'.length)))

test('jobs that wait are processed together, each once, and nothing is left of them', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 100)
  const rounds: QueueJob[][] = []
  await using _consumer = await consume(database, (jobs) => {
    rounds.push(jobs)
    return jobs.map(async () => {})
  })
  await eventually(async () => expect(await producer.state()).toMatchObject({ waiting: 0, active: 0 }))
  expect(namesOf(rounds).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index))
  expect(Math.max(...rounds.map(({ length }) => length))).toBeGreaterThan(4)
  expect(rounds.length).toBeLessThan(50)
})

test('jobs of a queue that somebody has paused are counted as waiting', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 2)
  const queue = openStoreQueue(database.queue)
  await using _closing = { [Symbol.asyncDispose]: () => queue.close() }
  await queue.pause()
  await producer.add('group-2', {})
  expect(await producer.waiting()).toBe(3)
  expect(await producer.state()).toMatchObject({ waiting: 3, active: 0, isPaused: true })
})

test('a job that comes alone is processed at once, however long the interval is', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 0)
  let seenAt = 0
  const consumer = await consume(
    database,
    (jobs) => {
      seenAt = performance.now()
      return jobs.map(async () => {})
    },
    { intervalMs: 30_000 },
  )
  await producer.add('group-0', { text: '' })
  await eventually(async () => expect(seenAt).toBeGreaterThan(0))
  // Nor does the end of the process wait for it.
  const closedAt = performance.now()
  await consumer.close()
  expect(performance.now() - closedAt).toBeLessThan(5000)
})

test('rounds that are neither full nor slow follow each other, with the jobs in the order of their ids', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 0)
  const seen: string[] = []
  let running = 0
  let most = 0
  await using _consumer = await consume(
    database,
    (jobs) => {
      running += 1
      most = Math.max(most, running)
      seen.push(...jobs.map(({ id }) => id))
      const done = sleep(5)
      void done.then(() => (running -= 1))
      return jobs.map(() => done)
    },
    { concurrency: 4 },
  )
  const ids = Array.from({ length: 100 }, (_, index) => `group-${1000 + index}`)
  for (const [index, id] of ids.entries()) {
    await producer.add(id, { text: '' })
    // Fewer than a full round at a time.
    if (index % 20 === 19) await eventually(async () => expect(seen).toHaveLength(index + 1))
  }
  expect(most).toBe(1)
  expect(seen).toEqual(ids)
})

test('beside a full round another is processed, and no round has more jobs than may be together', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 72)
  const rounds: QueueJob[][] = []
  const { promise: release, resolve } = Promise.withResolvers<void>()
  let isHeld = false
  await using _consumer = await consume(database, (jobs) => {
    rounds.push(jobs)
    const isFirstFull = !isHeld && jobs.length === 32
    isHeld ||= isFirstFull
    return jobs.map(() => (isFirstFull ? release : Promise.resolve()))
  })
  // Sooner than beside one that is only slow.
  await eventually(async () => expect(rounds.flat()).toHaveLength(72), 4500)
  expect(isHeld).toBe(true)
  resolve()
  expect(Math.max(...rounds.map(({ length }) => length))).toBe(32)
  await eventually(async () => expect(await producer.state()).toMatchObject({ waiting: 0, active: 0 }))
})

test('what comes between the starts of two rounds is processed together', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 0)
  const rounds: QueueJob[][] = []
  const processRound = (jobs: QueueJob[]) => {
    rounds.push(jobs)
    return jobs.map(async () => {})
  }
  await using _consumer = await consume(database, processRound, { intervalMs: 1000 })
  for (let index = 0; index < 20; index++) await producer.add(`group-${index}`, { text: '' })
  await eventually(async () => expect(rounds.flat()).toHaveLength(20))
  expect(rounds.length).toBeLessThanOrEqual(3)
})

test('of large jobs a round has few', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 0)
  for (let index = 0; index < 24; index++) await producer.add(`group-${index}`, { text: 'x'.repeat(200_000) })
  const rounds: QueueJob[][] = []
  await using _consumer = await consume(database, (jobs) => {
    rounds.push(jobs)
    return jobs.map(async () => {})
  })
  await eventually(async () => expect(rounds.flat()).toHaveLength(24))
  expect(Math.max(...rounds.map(({ length }) => length))).toBeLessThan(4)
})

test('what is postponed and what fails comes again; the rest of its round does not', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 20)
  const times = new Map<string, number>()
  const postponed: number[] = []
  const { lines, log: ownLog } = keptLog()
  const process = (jobs: QueueJob[]) =>
    jobs.map(async ({ id }) => {
      const time = (times.get(id) ?? 0) + 1
      times.set(id, time)
      if (id === 'group-7') postponed.push(performance.now())
      if (time > 1) return
      if (id === 'group-7') throw new PostponedError('later', 500)
      if (id === 'group-9') throw new Error('no')
    })
  await using _consumer = await consume(database, process, { log: ownLog })
  await eventually(async () => expect([times.get('group-7'), times.get('group-9')]).toEqual([2, 2]))
  await eventually(async () => expect(await producer.state()).toMatchObject({ waiting: 0, active: 0 }))
  expect([...times.values()].filter((time) => time > 1)).toHaveLength(2)
  expect(postponed[1]! - postponed[0]!).toBeGreaterThanOrEqual(490)
  // To be postponed is no failure. And the locks of what has ended are let go of: they would be renewed, in vain.
  await sleep(2000) // longer than the interval at which locks are renewed.
  expect(lines.map(({ msg, jobId }) => `${String(msg)} ${String(jobId)}`)).toEqual(['job.failed group-9'])
})

test('a round that waits for something holds up no other', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 1)
  const { promise: release, resolve } = Promise.withResolvers<void>()
  const ended: string[] = []
  await using _consumer = await consume(database, (jobs) =>
    jobs.map(async ({ id }) => {
      if (id === 'group-0') await release
      ended.push(id)
    }),
  )
  await eventually(async () => expect((await producer.state()).active).toBe(1))
  for (let index = 1; index <= 10; index++) await producer.add(`group-${index}`, { text: '' })
  await eventually(async () => expect(ended).toHaveLength(10))
  resolve()
  await eventually(async () => expect(ended).toContain('group-0'))
})

test('close waits for the round in hand, and leaves the others in the queue', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 60)
  const rounds: QueueJob[][] = []
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const consumer = await consume(
    database,
    (jobs) => {
      rounds.push(jobs)
      begin()
      return jobs.map(() => sleep(100))
    },
    { concurrency: 1 },
  )
  await begun
  await consumer.close()
  const { waiting, active } = await producer.state()
  expect(active).toBe(0)
  expect(waiting + rounds.flat().length).toBe(60)
  expect(waiting).toBeGreaterThan(0)
})

test('a process whose consumers are closed ends by itself', async () => {
  await using database = await freshDatabase()
  const code = `
    import { createConsumer } from '@ringback/core/queue'
    import { createLogger } from '@ringback/core/log'
    const options = { concurrency: 2, log: createLogger('test', 'silent'), stopping: new AbortController().signal }
    for (const work of [{ intervalMs: 5, processRound: () => [] }, async () => {}])
      await createConsumer(${JSON.stringify(database.queue)}, 'store', options, work).then(({ close }) => close())`
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code], { timeout: 30_000 })
})

/** A process of its own that consumes until it comes to the job `deadly`, which kills it. Its clock may be behind. */
function mortalConsumer({ queue }: Database, deadly: string, { behindMs = 0 } = {}) {
  const code = `
    import { createConsumer } from '@ringback/core/queue'
    import { createLogger } from '@ringback/core/log'
    const { now } = Date
    Date.now = () => now() - ${behindMs}
    const processRound = (jobs) => jobs.map(async ({ id }) => {
      if (id === ${JSON.stringify(deadly)}) process.kill(process.pid, 'SIGKILL')
    })
    const options = { concurrency: 2, log: createLogger('test', 'silent'), stopping: new AbortController().signal }
    await createConsumer(${JSON.stringify(queue)}, 'store', options, { intervalMs: 5, processRound })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], { stdio: 'inherit' })
  const death = once(child, 'exit')
  return { death, [Symbol.asyncDispose]: async () => void (child.kill('SIGKILL') && (await death)) }
}

test('a job that kills its process keeps back no other, however often it does', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 40)
  const left = async () => {
    const { waiting, active } = await producer.state()
    return waiting + active
  }
  for (let lives = 0; (await left()) > 1; lives++) {
    expect(lives).toBeLessThan(12)
    await using consumer = mortalConsumer(database, 'group-20')
    await consumer.death
  }
  const seen: QueueJob[][] = []
  await using _consumer = await consume(database, (jobs) => {
    seen.push(jobs)
    return jobs.map(async () => {})
  })
  await eventually(async () => expect(namesOf(seen)).toEqual([20]))
}, 90_000)

const DAY_MS = 86_400_000

/** Leaves the queue as a process that has just died leaves it if its clock, or that of Redis, was a day ahead. */
async function moveTimesAhead({ queue, sql }: Database) {
  if (queue.kind === 'postgres') {
    await sql`insert into bullmq.meta (queue, field, value) values ('store', 'stalled-check', ${String(Date.now() + DAY_MS)})
      on conflict (queue, field) do update set value = excluded.value`
    const { count } =
      await sql`update bullmq.job set locked_until_ms = locked_until_ms + ${DAY_MS} where state = 'active'`
    return count
  }
  const redis = new Redis(queue.url)
  const locks = await redis.keys(`${queue.prefix}:store:*:lock`)
  for (const lock of locks) await redis.pexpire(lock, DAY_MS)
  await redis.set(`${queue.prefix}:store:stalled-check`, '', 'PX', DAY_MS)
  redis.disconnect()
  return locks.length
}

test('what a process had in hand when it died comes again, even if a clock was a day ahead then', async () => {
  await using database = await freshDatabase()
  await using producer = await filledQueue(database, 1)
  await using consumer = mortalConsumer(database, 'group-0')
  await consumer.death
  expect(await moveTimesAhead(database)).toBe(1)
  const seen: QueueJob[] = []
  await using _consumer = await consume(database, (jobs) => {
    seen.push(...jobs)
    return jobs.map(async () => {})
  })
  await eventually(async () => expect(seen).toMatchObject([{ id: 'group-0', stalls: 1 }]))
  await eventually(async () => expect(await producer.state()).toMatchObject({ waiting: 0, active: 0 }))
})

test('what was postponed while the clock was a day ahead comes again soon after it is right', async () => {
  await using database = await freshDatabase()
  await using _producer = await filledQueue(database, 1)
  let times = 0
  await using _consumer = await consume(database, (jobs) =>
    jobs.map(async () => {
      times += 1
      if (times === 1) throw new PostponedError('later', DAY_MS + 10_000)
    }),
  )
  await eventually(async () => expect(times).toBe(2))
})

/** When the queue looks for jobs of dead processes again, and when what is postponed is due, in ms since 1970. */
async function timesOf({ queue, sql }: Database) {
  if (queue.kind === 'postgres') {
    const [times] = await sql<[{ check: number; due: number }]>`
      select value::float8 as check, process_at_ms::float8 as due
      from bullmq.meta, bullmq.job
      where field = 'stalled-check' and state = 'delayed'`
    return times
  }
  const redis = new Redis(queue.url)
  const keys = `${queue.prefix}:store`
  const [, score] = await redis.zrange(`${keys}:delayed`, '0', '0', 'WITHSCORES')
  const check = await redis.pexpiretime(`${keys}:stalled-check`)
  redis.disconnect()
  return { check, due: Math.floor(Number(score) / 4096) }
}

test('a process whose clock is behind takes no time of the others for one that is ahead', async () => {
  await using database = await freshDatabase()
  await using _producer = await filledQueue(database, 1)
  const consumer = await consume(database, (jobs) =>
    jobs.map(async () => {
      throw new PostponedError('later', 30_000)
    }),
  )
  const { due } = await eventually(async () => {
    const times = await timesOf(database)
    expect(times.due).toBeGreaterThan(Date.now())
    return times
  })
  await consumer.close()
  await moveTimesAhead(database)
  await using _behind = mortalConsumer(database, 'group-0', { behindMs: 120_000 })
  // All times are corrected at once, so this one shows that the others were looked at.
  await eventually(async () => expect((await timesOf(database)).check).toBeLessThan(Date.now() + DAY_MS / 2))
  expect((await timesOf(database)).due).toBe(due)
})
