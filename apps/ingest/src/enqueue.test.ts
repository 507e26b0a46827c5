import { randomUUIDv7 } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { readStoreJob } from '@ringback/core/callback'
import type { StoreJob } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import type { SpooledGroup } from '@ringback/core/spool'
import { createEnqueuer } from './enqueue.ts'
import type { EnqueueOptions } from './enqueue.ts'

// The producer here is a function that the test answers by hand, so that the queue is slow or down just when the test needs
// it. Real queues are in test/.

afterEach(() => vi.useRealTimers())

function controlledQueue(options: Pick<EnqueueOptions, 'spool' | 'newId' | 'onGroup'> = {}) {
  const adds: { id: string; job: StoreJob; succeed: () => void; fail: (error: Error) => void }[] = []
  let isUp = true
  const close = vi.fn(async () => {})
  const enqueuer = createEnqueuer({
    producer: {
      add: (id, job) => new Promise<void>((resolve, reject) => adds.push({ id, job, succeed: resolve, fail: reject })),
      probe: () => (isUp ? Promise.resolve() : Promise.reject(new Error('down'))),
      close,
    },
    log: createLogger('test', 'silent'),
    deadlineMs: 1000,
    addTimeoutMs: 400,
    ...options,
  })
  /** Resolves to the `number`th job that is added, as soon as it is. */
  async function job(number: number) {
    while (adds.length < number) await setImmediate()
    return adds[number - 1]!
  }
  return { enqueuer, adds, job, close, setUp: (up: boolean) => (isUp = up) }
}

const part = (name: string) => ({ kind: 'callbacks' as const, json: JSON.stringify(name) })
function callbacksIn(job: StoreJob | undefined): string[] {
  const reading = readStoreJob(job)
  if (!('group' in reading)) throw new Error('a job that cannot be read')
  return JSON.parse(reading.group.callbacks) as string[]
}

test('while one job is on its way, what arrives gathers and goes as one job', async () => {
  const { enqueuer, adds, job } = controlledQueue()
  const first = enqueuer.enqueue([part('a')])
  await job(1)
  const rest = ['b', 'c', 'd'].map((name) => enqueuer.enqueue([part(name)]))
  await setImmediate()
  expect(adds).toHaveLength(1)
  adds[0]!.succeed()
  await first
  expect(callbacksIn((await job(2)).job)).toEqual(['b', 'c', 'd'])
  adds[1]!.succeed()
  await Promise.all(rest)
})

test('group ids ascend in the order in which groups are sent: the worker stores them in that order', async () => {
  const { enqueuer, adds, job } = controlledQueue()
  for (let number = 1; number <= 50; number++) {
    const taken = enqueuer.enqueue([part(String(number))])
    const { succeed } = await job(number)
    succeed()
    await taken
  }
  const ids = adds.map(({ id }) => id)
  expect(ids).toEqual(ids.toSorted())
})

test('after the clock is set back, ids do not wait for it to catch up', async () => {
  // The second is earlier than the first. The third is of the second's millisecond and below it, so it is skipped.
  const ids = [
    '019b0000-2000-7000-8000-000000000000',
    '019b0000-1000-7000-8000-000000000005',
    '019b0000-1000-7000-8000-000000000004',
    '019b0000-1000-7000-8000-000000000006',
  ]
  // A loop that waited for a higher id would use these up, and take ids of the present time.
  const { enqueuer, adds, job } = controlledQueue({ newId: () => ids.shift() ?? randomUUIDv7() })
  for (let number = 1; number <= 3; number++) {
    const taken = enqueuer.enqueue([part(String(number))])
    const { succeed } = await job(number)
    succeed()
    await taken
  }
  expect(adds.map(({ id }) => id.slice(-4))).toEqual(['0000', '0005', '0006'])
})

test('after a pause a callback goes at once, and those right behind a job go together', async () => {
  vi.useFakeTimers({ toFake: ['performance'] }) // or a busy machine makes a pause of its own
  const { enqueuer, adds, job } = controlledQueue()
  const first = enqueuer.enqueue([part('a')])
  expect(adds).toHaveLength(1)
  adds[0]!.succeed()
  await first
  const rest = ['b', 'c'].map((name) => enqueuer.enqueue([part(name)]))
  expect(callbacksIn((await job(2)).job)).toEqual(['b', 'c'])
  adds[1]!.succeed()
  await Promise.all(rest)
})

/** A queue whose first job has just ended, and for which no time passes: what comes next is right behind it. */
async function behindAJob() {
  vi.useFakeTimers({ toFake: ['performance'] })
  const queue = controlledQueue()
  const first = queue.enqueuer.enqueue([part('a')])
  queue.adds[0]!.succeed()
  await first
  await setImmediate()
  return queue
}

test('right behind a job, too, one job at a time is on its way', async () => {
  const { enqueuer, adds, job } = await behindAJob()
  const behind = ['b', 'c'].map((name) => enqueuer.enqueue([part(name)]))
  const second = await job(2)
  await setImmediate()
  const last = enqueuer.enqueue([part('d')])
  await setImmediate()
  await setImmediate()
  expect(adds).toHaveLength(2)
  second.succeed()
  expect(callbacksIn((await job(3)).job)).toEqual(['d'])
  adds[2]!.succeed()
  await Promise.all([...behind, last])
})

test('right behind a job, more than a few gather as long as each turn of the event loop brings others', async () => {
  const { enqueuer, adds, job } = await behindAJob()
  const names = Array.from({ length: 15 }, (_, index) => `c${index}`)
  const rest: Promise<void>[] = []
  for (const name of names) {
    rest.push(enqueuer.enqueue([part(name)]))
    if (rest.length % 5 === 0) await setImmediate()
  }
  expect(callbacksIn((await job(2)).job)).toEqual(names)
  adds[1]!.succeed()
  await Promise.all(rest)
})

test('right behind a job, nothing gathers for longer than 3 ms, whatever else comes', async () => {
  const { enqueuer, adds, job } = await behindAJob()
  const rest: Promise<void>[] = []
  for (let ms = 0; ms < 5; ms++) {
    for (let index = 0; index < 5; index++) rest.push(enqueuer.enqueue([part('c')]))
    vi.advanceTimersByTime(1)
    await setImmediate()
  }
  expect(adds).toHaveLength(2)
  ;(await job(2)).succeed()
  ;(await job(3)).succeed()
  await Promise.all(rest)
})

test('nothing is acknowledged before its own job is durable', async () => {
  const { enqueuer, job } = controlledQueue()
  let isDurable = false
  const enqueued = enqueuer.enqueue([part('a')]).then(() => expect(isDurable).toBe(true))
  const added = await job(1)
  await setImmediate()
  isDurable = true
  added.succeed()
  await enqueued
})

test('a request of more callbacks than a group holds waits for all of its groups', async () => {
  const { enqueuer, job } = controlledQueue()
  let done = false
  const parts = Array.from({ length: 1100 }, (_, index) => part(`c${index}`))
  const enqueued = enqueuer.enqueue(parts).then(() => (done = true))
  for (const [index, size] of [500, 500, 100].entries()) {
    const added = await job(index + 1)
    expect(callbacksIn(added.job)).toHaveLength(size)
    expect(done).toBe(false)
    added.succeed()
  }
  await enqueued
})

test('a group is bounded in bytes, and what is larger than a group is a group of its own', async () => {
  const { enqueuer, job } = controlledQueue()
  const large = 'x'.repeat(2_000_000)
  const enqueued = enqueuer.enqueue([part('a'), part(large), part('b')])
  for (const [index, content] of ['a', large, 'b'].entries()) {
    const added = await job(index + 1)
    expect(callbacksIn(added.job)).toEqual([content])
    added.succeed()
  }
  await enqueued
})

test('the size of a group is that of its callbacks: a canary that travels along does not count', async () => {
  const sizes: number[] = []
  const { enqueuer, job } = controlledQueue({ onGroup: (size) => sizes.push(size) })
  const canary = { kind: 'canary' as const, json: '{}' }
  for (const [index, parts] of [[canary], [part('a'), canary, part('b')]].entries()) {
    const enqueued = enqueuer.enqueue(parts)
    ;(await job(index + 1)).succeed()
    await enqueued
  }
  expect(sizes).toEqual([2])
})

test('close waits for what is on its way and for what waits, and only then closes the queue', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const { enqueuer, job, close } = controlledQueue()
  const travelling = enqueuer.enqueue([part('a')])
  const first = await job(1)
  const waiting = enqueuer.enqueue([part('b')])
  const closed = enqueuer.close()
  first.succeed()
  const second = await job(2)
  await setImmediate()
  expect(close).not.toHaveBeenCalled()
  second.succeed()
  await Promise.all([travelling, waiting, closed])
  expect(close).toHaveBeenCalledTimes(1)
  expect(vi.getTimerCount()).toBe(0)
})

test('what is too much to wait in memory is refused at once, and taken again when there is room', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval'] }) // 70 MB may take longer than the deadline
  const { enqueuer, job } = controlledQueue()
  const parts = Array.from({ length: 70 }, () => part('x'.repeat(1_000_000)))
  const waiting = enqueuer.enqueue(parts)
  await expect(enqueuer.enqueue([part('a')])).rejects.toThrow('too much is waiting')
  for (let number = 1; number <= parts.length; number++) (await job(number)).succeed()
  await waiting
  const later = enqueuer.enqueue([part('b')])
  ;(await job(parts.length + 1)).succeed()
  await later
})

describe('when the queue fails', () => {
  test('everything that waits fails at once, and everything new, until a probe succeeds', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { enqueuer, adds, job, setUp } = controlledQueue()
    setUp(false)
    const first = expect(enqueuer.enqueue([part('a')])).rejects.toThrow('gone')
    await job(1)
    const waiting = expect(enqueuer.enqueue([part('b')])).rejects.toThrow('gone')
    adds[0]!.fail(new Error('gone'))
    await Promise.all([first, waiting])
    await expect(enqueuer.enqueue([part('c')])).rejects.toThrow('gone')
    await expect(enqueuer.probe()).rejects.toThrow('gone')
    await vi.advanceTimersByTimeAsync(250)
    await expect(enqueuer.enqueue([part('c')])).rejects.toThrow('gone')

    setUp(true)
    await vi.advanceTimersByTimeAsync(250)
    const recovered = enqueuer.enqueue([part('d')])
    expect(callbacksIn((await job(2)).job)).toEqual(['d'])
    adds[1]!.succeed()
    await recovered
    await enqueuer.probe()
    setUp(false)
    await expect(enqueuer.probe()).rejects.toThrow('down')
    await enqueuer.close()
  })

  test('an answer leaves before its deadline, however long the queue takes', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval'] })
    const { enqueuer, adds, job } = controlledQueue()
    const travelling = expect(enqueuer.enqueue([part('a')])).rejects.toThrow('before the deadline')
    await job(1)
    await vi.advanceTimersByTimeAsync(100)
    const waiting = expect(enqueuer.enqueue([part('b')])).rejects.toThrow('before the deadline')
    await vi.advanceTimersByTimeAsync(1000)
    await Promise.all([travelling, waiting])
    const behind = expect(enqueuer.enqueue([part('c')])).rejects.toThrow('before the deadline')
    await vi.advanceTimersByTimeAsync(500)
    const later = enqueuer.enqueue([part('d')])
    await vi.advanceTimersByTimeAsync(500)
    await behind
    adds[0]!.succeed()
    expect(callbacksIn((await job(2)).job)).toEqual(['d'])
    adds[1]!.succeed()
    await later
  })

  test('the deadline is kept for what travels alone as well, also after nothing has waited', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval'] })
    const { enqueuer, job } = controlledQueue()
    const first = enqueuer.enqueue([part('a')])
    ;(await job(1)).succeed()
    await first
    await vi.advanceTimersByTimeAsync(1000)
    const alone = expect(enqueuer.enqueue([part('b')])).rejects.toThrow('before the deadline')
    await job(2)
    await vi.advanceTimersByTimeAsync(1000)
    await alone
  })
})

describe('when the queue fails and there is a spool', () => {
  function controlledSpool() {
    const groups: SpooledGroup[] = []
    let failure: Error | undefined
    return {
      groups,
      fail: (error: Error) => (failure = error),
      spool: {
        append: (group: SpooledGroup) =>
          failure === undefined ? Promise.resolve(void groups.push(group)) : Promise.reject(failure),
        probe: () => (failure === undefined ? Promise.resolve() : Promise.reject(failure)),
      },
    }
  }

  test('the group goes to the spool under the id that it had, with what waits and what comes, until a probe succeeds', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { spool, groups } = controlledSpool()
    const { enqueuer, adds, job, setUp } = controlledQueue({ spool })
    setUp(false)
    const first = enqueuer.enqueue([part('a')])
    await job(1)
    const waiting = enqueuer.enqueue([part('b')])
    adds[0]!.fail(new Error('timed out, perhaps applied'))
    await Promise.all([first, waiting])
    await enqueuer.enqueue([part('c')])
    expect(groups.map(({ job: spooled }) => callbacksIn(spooled as StoreJob))).toEqual([['a'], ['b'], ['c']])
    expect(groups[0]!.id).toBe(adds[0]!.id)
    expect(Date.now() - groups[0]!.at).toBeLessThan(60_000)
    expect(adds).toHaveLength(1)
    expect(enqueuer.isQueueDown()).toBe(true)
    await enqueuer.probe()

    setUp(true)
    await vi.advanceTimersByTimeAsync(250)
    expect(enqueuer.isQueueDown()).toBe(false)
    const recovered = enqueuer.enqueue([part('d')])
    ;(await job(2)).succeed()
    await recovered
    expect(groups).toHaveLength(3)
    // Nothing looks after the queue any more, nor, once nothing waits, after a deadline.
    await vi.advanceTimersByTimeAsync(50)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('what has waited too long for a slow queue goes to the spool, and the queue is not given up', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval'] })
    const { spool, groups } = controlledSpool()
    const { enqueuer, adds, job } = controlledQueue({ spool })
    const first = enqueuer.enqueue([part('a')])
    await job(1)
    const waiting = enqueuer.enqueue([part('b')])
    await vi.advanceTimersByTimeAsync(400)
    const younger = enqueuer.enqueue([part('c')])
    await vi.advanceTimersByTimeAsync(50)
    adds[0]!.succeed()
    await Promise.all([first, waiting, younger])
    expect(groups.map(({ job: spooled }) => callbacksIn(spooled as StoreJob))).toEqual([['b', 'c']])
    const next = enqueuer.enqueue([part('d')])
    ;(await job(2)).succeed()
    await next
  })

  test('a request is refused only if the spool fails as well, and ingest is then not ready, and can be closed', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { spool, fail } = controlledSpool()
    const { enqueuer, job, setUp } = controlledQueue({ spool })
    setUp(false)
    fail(new Error('no space left on the device'))
    const refused = expect(enqueuer.enqueue([part('a')])).rejects.toThrow('no space left')
    ;(await job(1)).fail(new Error('gone'))
    await refused
    await expect(enqueuer.probe()).rejects.toThrow('no space left')
    await enqueuer.close()
    expect(vi.getTimerCount()).toBe(0)
  })
})
