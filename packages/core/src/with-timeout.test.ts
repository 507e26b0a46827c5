import { once } from 'node:events'
import { MessageChannel } from 'node:worker_threads'
import { expect, onTestFinished, test, vi } from 'vitest'
import { withTimeout } from './with-timeout.ts'

test('what takes longer than its time is rejected, and what ends in time leaves no timer behind', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const late = expect(withTimeout(new Promise(() => {}), 1000, 'no answer within 1000 ms')).rejects.toThrow('no answer')
  await vi.advanceTimersByTimeAsync(1000)
  await late
  expect(await withTimeout(Promise.resolve(7), 1000, 'no answer')).toBe(7)
  await expect(withTimeout(Promise.reject(new Error('refused')), 1000, 'no answer')).rejects.toThrow('refused')
  expect(vi.getTimerCount()).toBe(0)
})

test('an answer that came in time counts, although the process was held up until after its time', async () => {
  const { port1: asking, port2: answering } = new MessageChannel()
  onTestFinished(() => asking.close())
  const answer = withTimeout(once(asking, 'message'), 10, 'no answer')
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port, and no window
  answering.postMessage(7)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
  expect(await answer).toEqual([7])
})
