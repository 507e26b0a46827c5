import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createTurns } from './take-turns.ts'

const LARGE = 100 * 1024
const LIMITS = { maxBytes: 2 * LARGE, maxWaitingBytes: 10 * LARGE, maxWaitMs: 400 }

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** Bodies that come to be worked on; the work on one ends when `end` is called with its name. */
function bodies(limits = LIMITS) {
  const inTurn = createTurns(limits)
  const begun: string[] = []
  const endOf = new Map<string, (result: string) => void>()
  const come = (name: string, bodyBytes = LARGE) =>
    inTurn(bodyBytes, () => {
      begun.push(name)
      const { promise, resolve } = Promise.withResolvers<string>()
      endOf.set(name, resolve)
      return promise
    })
  const end = async (name: string) => {
    endOf.get(name)!(`done ${name}`)
    await nextTurn()
  }
  return { inTurn, come, end, begun }
}

test('large bodies are worked on in their order, and only so many at a time', async () => {
  const { come, end, begun } = bodies()
  const results = ['a', 'b', 'c', 'd'].map((name) => come(name))
  await nextTurn()
  expect(begun).toEqual(['a', 'b'])
  await end('b')
  expect(begun).toEqual(['a', 'b', 'c'])
  await end('a')
  await end('c')
  await end('d')
  expect(await Promise.all(results)).toEqual(['done a', 'done b', 'done c', 'done d'])
})

test('a small body waits for no large one', async () => {
  const { come, begun } = bodies()
  for (const name of ['a', 'b', 'c']) void come(name)
  void come('small', 1000)
  await nextTurn()
  expect(begun.toSorted()).toEqual(['a', 'b', 'small'])
})

test('a body larger than all may be together is worked on alone', async () => {
  const { come, end, begun } = bodies()
  void come('a')
  void come('huge', 3 * LARGE)
  void come('b')
  await nextTurn()
  expect(begun).toEqual(['a'])
  await end('a')
  expect(begun).toEqual(['a', 'huge'])
  await end('huge')
  expect(begun).toEqual(['a', 'huge', 'b'])
})

test('a large body that has waited too long is given up without work, and later ones get their turn', async () => {
  const { come, end, begun } = bodies()
  for (const name of ['a', 'b']) void come(name)
  const late = come('late')
  await vi.advanceTimersByTimeAsync(399)
  const later = come('later')
  await vi.advanceTimersByTimeAsync(1)
  expect(await late).toBeUndefined()
  await end('a')
  await end('later')
  expect(await later).toBe('done later')
  expect(begun).toEqual(['a', 'b', 'later'])
})

test('what waited behind a body that is given up, and has room, gets its turn at once', async () => {
  const { come, begun } = bodies()
  void come('a')
  const huge = come('huge', 2 * LARGE)
  await vi.advanceTimersByTimeAsync(399)
  void come('b')
  await vi.advanceTimersByTimeAsync(1)
  expect(await huge).toBeUndefined()
  expect(begun).toEqual(['a', 'b'])
})

test('only what waits counts as waiting, however much has had its turn', async () => {
  const { come, end } = bodies({ ...LIMITS, maxWaitingBytes: 2 * LARGE })
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    const result = come(name)
    await nextTurn()
    await end(name)
    expect(await result).toBe(`done ${name}`)
  }
  // Nor is anything given up that has had its turn.
  await vi.advanceTimersByTimeAsync(400)
  for (const name of ['f', 'g', 'h', 'i']) void come(name)
  expect(await come('j')).toBeUndefined()
})

test('more large bodies than may wait are given up at once', async () => {
  const { come } = bodies({ ...LIMITS, maxWaitingBytes: 2 * LARGE })
  const results = ['a', 'b', 'c', 'd'].map((name) => come(name))
  expect(await come('e')).toBeUndefined()
  await vi.advanceTimersByTimeAsync(400)
  expect(await Promise.all(results.slice(2))).toEqual([undefined, undefined])
})

test('work that fails ends its turn', async () => {
  const { inTurn, come, begun } = bodies({ ...LIMITS, maxBytes: LARGE })
  const failing = inTurn(LARGE, () => Promise.reject(new Error('no luck')))
  void come('next')
  await expect(failing).rejects.toThrow('no luck')
  await nextTurn()
  expect(begun).toEqual(['next'])
})
