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

test('a server without maxmemory is never full, and what Redis does not count is not counted', () => {
  expect(memoryUsage(new Map([['used_memory', '5']]))).toBe(0)
  const info = { used_memory: '95', mem_not_counted_for_evict: '15', maxmemory: '100' }
  expect(memoryUsage(new Map(Object.entries(info)))).toBe(0.8)
})
