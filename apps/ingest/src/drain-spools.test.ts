import { mkdir, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createLogger } from '@ringback/core/log'
import { openSpool } from '@ringback/core/spool'
import type { Spool } from '@ringback/core/spool'
import { holdsGroups } from '@ringback/core/spools'
import { drainSpools } from './drain-spools.ts'

// The queue here is a function: what matters is what is added to it, and when nothing is. The real path is tested in test/.

const options = { maxBytes: 100_000_000, log: createLogger('test', 'silent') }

const eventually = (check: () => unknown) => vi.waitFor(check, { interval: 5, timeout: 5000 })

async function aFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'ringback-drain-'))
  onTestFinished(() => rm(dir, { recursive: true }))
  return dir
}

async function spoolWith(folder: string, ...ids: string[]): Promise<Spool> {
  const spool = (await openSpool(folder, options))!
  for (const id of ids) await spool.append({ id, at: 1, job: {} })
  return spool
}

/** Drains the spools in `dir`, of which `own` is this ingest's, into a queue that can be down, be full and refuse. */
function start(
  dir: string,
  own: Spool,
  onAdd: (id: string) => void | Promise<void> = () => {},
  { isDown = false, usage = 0.69, neverCloses = false, intervalMs = 5 } = {},
) {
  const state = {
    isDown,
    usage,
    looks: 0,
    producers: 0,
    added: [] as string[],
    lines: [] as string[],
    drained: [] as { drained: number; left: number }[],
  }
  const write = (line: string) => {
    const { msg, drained, left } = JSON.parse(line) as { msg: string; drained: number; left: number }
    state.lines.push(msg)
    if (msg === 'spool.drained') state.drained.push({ drained, left })
  }
  const drains = drainSpools({
    ...options,
    log: createLogger('test', 'info', { write }),
    dir,
    own,
    async memoryUsage() {
      state.looks += 1
      return state.usage
    },
    openProducer() {
      state.producers += 1
      return {
        async add(id) {
          await onAdd(id)
          state.added.push(id)
        },
        async close() {
          state.producers -= 1
          if (neverCloses) await new Promise(() => {})
        },
      }
    },
    isQueueDown() {
      state.looks += 1
      return state.isDown
    },
    intervalMs,
  })
  onTestFinished(async () => {
    await drains.close()
    await own.close()
  })
  return { state, close: drains.close }
}

const looked = (state: { looks: number }) => {
  const before = state.looks
  return eventually(() => expect(state.looks).toBeGreaterThan(before + 3))
}

test.each([
  ['is down', { isDown: true }],
  ['has no room for what may wait', { usage: 0.7 }],
])(
  'nothing leaves a spool while the queue %s, and all of it afterwards, also of an ingest that is gone',
  async (_name, not) => {
    const dir = await aFolder()
    const own = await spoolWith(join(dir, '0'), 'own')
    await (await spoolWith(join(dir, '1'), 'left')).close()
    const { state } = start(dir, own, undefined, not)
    await looked(state)
    expect(state).toMatchObject({ added: [], lines: [] })
    Object.assign(state, { isDown: false, usage: 0.69 })
    // In any order: the queue may have come back between the look at its own spool and that at the other.
    await eventually(() => expect(state.added.toSorted()).toEqual(['left', 'own']))
  },
)

test('a queue whose connection is never closed holds up nothing that comes later', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'first')
  const { state } = start(dir, own, undefined, { neverCloses: true })
  await eventually(() => expect(state.added).toEqual(['first']))
  await own.append({ id: 'second', at: 1, job: {} })
  await eventually(() => expect(state.added).toEqual(['first', 'second']))
})

test("an ingest's own spool goes before those that nobody holds, and each is told of once", async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'own')
  await (await spoolWith(join(dir, '1'), 'left')).close()
  const { state } = start(dir, own)
  await eventually(() => expect(state.added).toEqual(['own', 'left']))
  const lines = ['spool.drained', 'spool.adopted', 'spool.drained']
  await eventually(() => expect(state.lines).toEqual(lines))
  await sleep(50)
  expect(state.lines).toEqual(lines)
  expect(state.producers).toBe(0)
})

test('between two looks at the spools there is a pause, which ends when ingest does', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'))
  await (await spoolWith(join(dir, '1'), 'left')).close()
  const { state, close } = start(dir, own, undefined, { intervalMs: 60_000 })
  await eventually(() => expect(state.lines).toEqual(['spool.adopted', 'spool.drained']))
  await (await spoolWith(join(dir, '2'), 'later')).close()
  await sleep(50)
  expect(state.added).toEqual(['left'])
  await close()
})

test('a spool that another process holds is left to it, and nothing is said of that', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'))
  const held = await spoolWith(join(dir, '1'), 'held')
  onTestFinished(held.close)
  const { state } = start(dir, own)
  await looked(state)
  expect(state).toMatchObject({ added: [], lines: [] })
})

test('the log says how many groups the queue was given, also where others came to the spool meanwhile', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'a')
  const { state } = start(dir, own, async (id) => {
    if (id !== 'a') return
    for (const more of ['b', 'c']) await own.append({ id: more, at: 1, job: {} })
  })
  await eventually(() => expect(state.added).toEqual(['a', 'b', 'c']))
  const drained = [
    { drained: 1, left: 2 },
    { drained: 2, left: 0 },
  ]
  await eventually(() => expect(state.drained).toEqual(drained))
})

test('a queue that goes away in the middle of a spool is given no more of it until it is back', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'a', 'b', 'c')
  const { state } = start(dir, own, (id) => {
    if (id === 'b') state.isDown = true
  })
  await eventually(() => expect(state.added).toEqual(['a', 'b']))
  await looked(state)
  expect(state.added).toEqual(['a', 'b'])
  expect(own.usage().groups).toBe(1)
  state.isDown = false
  await eventually(() => expect(state.added).toEqual(['a', 'b', 'c']))
})

test('a group leaves its spool when the queue has taken it, and is given again where it has not', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'a', 'b')
  let refusals = 3
  const { state } = start(dir, own, async (id) => {
    await sleep(5)
    if (id === 'b' && refusals-- > 0) throw new Error('no')
  })
  await eventually(() => expect(refusals).toBeLessThan(1))
  await eventually(() => expect(own.usage().groups).toBe(0))
  expect(state.added).toEqual(['a', 'b'])
})

test('a spool that another ingest holds is left to it, and those behind it are drained and let go of', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'))
  const held = await spoolWith(join(dir, '1'), 'held')
  const left = join(dir, '2')
  await (await spoolWith(left, 'left')).close()
  const { state } = start(dir, own)
  await eventually(() => expect(state.added).toEqual(['left']))
  await looked(state)
  expect(state.added).toEqual(['left'])
  expect(await holdsGroups(left)).toBe(false)
  const nextHolder = await openSpool(left, options)
  expect(nextHolder).toBeDefined()
  await nextHolder?.close()
  await held.close()
  await eventually(() => expect(state.added).toEqual(['left', 'held']))
})

test('a file that cannot be read keeps back no other, nor another spool, and is given when it can be', async () => {
  const dir = await aFolder()
  for (const number of ['0', '1', '2']) await (await spoolWith(join(dir, number), `left-${number}`)).close()
  const file = (number: string) => join(dir, number, '000000000001.groups')
  const content = await readFile(file('0'))
  for (const number of ['0', '1']) {
    await rm(file(number))
    await mkdir(file(number))
  }
  const own = await spoolWith(join(dir, '0'), 'own')
  const { state } = start(dir, own)
  await eventually(() => expect(state.added).toEqual(['own', 'left-2']))
  await looked(state)
  expect(state.added).toEqual(['own', 'left-2'])
  expect(state.lines).toEqual(expect.arrayContaining(['spool.unreadable', 'spool.waits']))
  expect(state.lines.filter((line) => line === 'spool.drained')).toHaveLength(2)
  await rmdir(file('0'))
  await writeFile(file('0'), content)
  await eventually(() => expect(state.added).toEqual(['own', 'left-2', 'left-0']))
  await eventually(() => expect(own.usage().bytes).toBe(0))
})

test('close waits for the group in hand, and gives no other', async () => {
  const dir = await aFolder()
  const own = await spoolWith(join(dir, '0'), 'a', 'b', 'c')
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const { state, close } = start(dir, own, async () => {
    begin()
    await sleep(50)
  })
  await begun
  await close()
  expect(state.added).toEqual(['a'])
  await sleep(60)
  expect(state.added).toEqual(['a'])
  expect(own.usage().groups).toBe(2)
})
