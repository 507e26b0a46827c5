import { expect, test, vi } from 'vitest'
import { createFullness, memoryUsage } from './fullness.ts'

test('it closes at 90 % and opens under 85 %, and the usage can be read', async () => {
  vi.useFakeTimers()
  let usage = 0
  const fullness = createFullness(async () => usage)
  const at = async (value: number) => {
    usage = value
    vi.advanceTimersByTime(500)
    await fullness.refresh()
    expect(fullness.usage()).toBe(value)
    try {
      fullness.check()
      return true
    } catch {
      return false
    }
  }
  expect(await at(0.89)).toBe(true)
  expect(await at(0.9)).toBe(false)
  expect(await at(0.86)).toBe(false)
  expect(await at(0.84)).toBe(true)
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

test('while the server does not answer, the usage that was last read counts', async () => {
  vi.useFakeTimers()
  const usages = [0.5, undefined, 0.95, undefined]
  const fullness = createFullness(async () => usages.shift() ?? Promise.reject(new Error('no answer')))
  // A rejection that nobody handles ends the process, and fails this test too.
  const at = async () => {
    fullness.check()
    await vi.advanceTimersByTimeAsync(500)
  }
  await at()
  await at()
  await at()
  await expect(at()).rejects.toThrow('95 %')
  await vi.advanceTimersByTimeAsync(500)
  await expect(at()).rejects.toThrow('95 %')
  vi.useRealTimers()
})

test('a server without maxmemory is never full, and what Redis does not count is not counted', () => {
  expect(memoryUsage(new Map([['used_memory', '5']]))).toBe(0)
  const info = { used_memory: '95', mem_not_counted_for_evict: '15', maxmemory: '100' }
  expect(memoryUsage(new Map(Object.entries(info)))).toBe(0.8)
})
