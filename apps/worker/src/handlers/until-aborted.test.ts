import { expect, test } from 'vitest'
import { untilAborted } from './until-aborted.ts'

const never = new Promise<void>(() => {})

test('work that ends in time counts, also where the signal fires later', async () => {
  const limit = new AbortController()
  await expect(untilAborted(Promise.resolve(), limit.signal, 100)).resolves.toBeUndefined()
  limit.abort()
  await expect(untilAborted(Promise.reject(new Error('no')), new AbortController().signal, 100)).rejects.toThrow('no')
})

test('work that goes on past its time has failed, and may be tried again', async () => {
  const limit = new AbortController()
  const outcome = untilAborted(never, limit.signal, 100)
  limit.abort()
  await expect(outcome).rejects.toMatchObject({ message: 'not done within 100 ms', retryable: true })
})

test('work that begins after its time is over has failed', async () => {
  await expect(untilAborted(never, AbortSignal.abort(), 100)).rejects.toThrow('not done within 100 ms')
})
