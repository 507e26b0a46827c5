import { expect, test, vi } from 'vitest'
import { createFullness, memoryUsage } from './fullness.ts'
import { COUNTER_TTL_MS, createLossDetector } from './loss.ts'

test('it closes at 90 %, opens under 85 %, and has room for what may wait under 70 %', async () => {
  vi.useFakeTimers()
  let usage = 0
  const fullness = createFullness(async () => usage)
  const at = async (value: number) => {
    usage = value
    vi.advanceTimersByTime(500)
    await fullness.refresh()
    let isOpen = true
    try {
      fullness.check()
    } catch {
      isOpen = false
    }
    return [isOpen, fullness.hasRoom()]
  }
  expect(await at(0.69)).toEqual([true, true])
  expect(await at(0.7)).toEqual([true, false])
  expect(await at(0.89)).toEqual([true, false])
  expect(await at(0.9)).toEqual([false, false])
  expect(await at(0.86)).toEqual([false, false])
  expect(await at(0.84)).toEqual([true, false])
  vi.useRealTimers()
})

test('however often it is checked, the server is asked twice a second', async () => {
  vi.useFakeTimers()
  const read = vi.fn(async () => 0)
  const fullness = createFullness(read)
  for (let ms = 0; ms < 1000; ms++) {
    fullness.check()
    vi.advanceTimersByTime(1)
  }
  expect(read).toHaveBeenCalledTimes(2)
  vi.useRealTimers()
})

test('a server without maxmemory is never full, and what Redis does not count is not counted', () => {
  expect(memoryUsage(new Map([['used_memory', '5']]))).toBe(0)
  const info = { used_memory: '95', mem_not_counted_for_evict: '15', maxmemory: '100' }
  expect(memoryUsage(new Map(Object.entries(info)))).toBe(0.8)
})

test('a count that does not grow is a loss, said once; one that no answer told of is none', async () => {
  const counts = [1, 2, 4, 4, 5, 1, 2]
  const detect = createLossDetector(async () => ({ count: counts.shift()!, at: 0 }))
  const losses: boolean[] = []
  while (counts.length > 0) losses.push((await detect()) !== undefined)
  expect(losses).toEqual([false, false, false, true, false, true, false])
})

test('a count that the server has forgotten, for nobody asked for so long by its clock, is no loss', async () => {
  let now = 0
  const counts = [7, 1, 1]
  const detect = createLossDetector(async () => ({ count: counts.shift()!, at: now }))
  await detect()
  now = COUNTER_TTL_MS
  expect(await detect()).toBeUndefined()
  now += COUNTER_TTL_MS / 2
  expect(await detect()).toMatch(/^it had counted to 1 for this process 43200 s ago, and after that to 1/)
})

test('who asks while the server is being asked gets the same answer', async () => {
  const counts = [Promise.withResolvers<number>(), Promise.withResolvers<number>()]
  let asked = 0
  const detect = createLossDetector(async () => ({ count: await counts[asked++]!.promise, at: 0 }))
  const both = [detect(), detect()]
  counts[1]!.resolve(2)
  counts[0]!.resolve(1)
  expect(await Promise.all(both)).toEqual([undefined, undefined])
  expect(await detect()).toBeUndefined()
  expect(asked).toBe(2)
})
