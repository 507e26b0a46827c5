import { expect, onTestFinished, test, vi } from 'vitest'
import { withTimeout } from './with-timeout.ts'

test('what takes longer than its time is rejected, and what ends in time leaves no timer behind', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const late = expect(withTimeout(new Promise(() => {}), 1000, 'no answer within 1000 ms')).rejects.toThrow('no answer')
  await vi.advanceTimersByTimeAsync(1000)
  await late
  expect(await withTimeout(Promise.resolve(7), 1000, 'no answer')).toBe(7)
  await expect(withTimeout(Promise.reject(new Error('refused')), 1000, 'no answer')).rejects.toThrow('refused')
  expect(vi.getTimerCount()).toBe(0)
})
