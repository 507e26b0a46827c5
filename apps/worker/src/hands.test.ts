import { expect, test } from 'vitest'
import { createHands } from './hands.ts'

test('hands are full while each of them has a job within its time', async () => {
  const hands = createHands(2, 1000)
  const now = performance.now()
  const jobs = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  expect(hands.isFree(now)).toBe(true)
  const taken = jobs.map(({ promise }, index) =>
    hands.take(async (mayTake) => {
      if (index === 1) mayTake(60_000)
      await promise
    }),
  )
  expect(hands.isFree(now)).toBe(false)
  expect(hands.isFree(now + 30_000)).toBe(false) // the second may take a minute
  expect(hands.isFree(now + 90_000)).toBe(true)
  for (const { resolve } of jobs) resolve()
  await Promise.all(taken)
  expect(hands.isFree(now)).toBe(true)
})

test('a job that does not say how long it may take has the time that jobs have', async () => {
  const hands = createHands(1, 60_000)
  const now = performance.now()
  const { promise, resolve } = Promise.withResolvers<void>()
  const taken = hands.take(() => promise)
  expect(hands.isFree(now + 59_000)).toBe(false)
  expect(hands.isFree(now + 90_000)).toBe(true)
  resolve()
  await taken
})

test('whatever begins, ends, fails or has an answer is a move', async () => {
  const hands = createHands(1, 1000)
  const moved = async (work: () => unknown) => {
    const before = hands.moves()
    await work()
    return hands.moves() - before
  }
  expect(await moved(() => hands.take(async () => {}))).toBe(2)
  expect(await moved(() => hands.take(async (mayTake) => mayTake(1)))).toBe(3)
  expect(await moved(() => hands.take(() => Promise.reject(new Error('no'))).catch(() => {}))).toBe(2)
  expect(await moved(hands.move)).toBe(1)
})
