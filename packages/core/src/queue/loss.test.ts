import { expect, test } from 'vitest'
import { COUNTER_TTL_MS, createLossDetector, createTellLosses } from './loss.ts'

test('a count that does not grow is a loss, said once; one that no answer told of is none', async () => {
  const counts = [1, 2, 4, 4, 5, 1, 2]
  const detect = createLossDetector('Redis', async () => ({ count: counts.shift()!, at: 0 }))
  const losses: boolean[] = []
  while (counts.length > 0) losses.push((await detect()) !== undefined)
  expect(losses).toEqual([false, false, false, true, false, true, false])
})

test('a count that the server has forgotten, for nobody asked for so long by its clock, is no loss', async () => {
  let now = 0
  const counts = [7, 1, 1]
  const detect = createLossDetector('Redis', async () => ({ count: counts.shift()!, at: now }))
  await detect()
  now = COUNTER_TTL_MS
  expect(await detect()).toBeUndefined()
  now += COUNTER_TTL_MS / 2
  expect(await detect()).toMatch(
    /^Redis has lost writes: it had counted to 1 for this process 43200 s ago, and after that to 1/,
  )
})

test('a server that did not answer is asked again, and what it has lost meanwhile is a loss', async () => {
  const counts = [3, undefined, 1]
  const detect = createLossDetector('Redis', async () => {
    const count = counts.shift()
    if (count === undefined) throw new Error('no answer')
    return { count, at: 0 }
  })
  await detect()
  await expect(detect()).rejects.toThrow('no answer')
  expect(await detect()).toContain('had counted to 3')
})

test('who asks while the server is being asked gets the same answer', async () => {
  const counts = [Promise.withResolvers<number>(), Promise.withResolvers<number>()]
  let asked = 0
  const detect = createLossDetector('Redis', async () => ({ count: await counts[asked++]!.promise, at: 0 }))
  const both = [detect(), detect()]
  counts[1]!.resolve(2)
  counts[0]!.resolve(1)
  expect(await Promise.all(both)).toEqual([undefined, undefined])
  expect(await detect()).toBeUndefined()
  expect(asked).toBe(2)
})

test('a loss that is found after its call was given up is told by the next one, once', async () => {
  const late = Promise.withResolvers<string>()
  const found = [late.promise, Promise.resolve(undefined), Promise.resolve(undefined)]
  let isInTime = false
  const tell = createTellLosses(async (onLoss) => {
    const finding = found.shift()!.then(onLoss)
    if (!isInTime) throw new Error('no answer in time')
    await finding
  })
  await expect(tell()).rejects.toThrow('no answer in time')
  late.resolve('3 writes are gone')
  isInTime = true
  expect(await tell()).toBe('3 writes are gone')
  expect(await tell()).toBeUndefined()
})

test('a loss that is found while another server does not answer is told all the same', async () => {
  const tell = createTellLosses(async (onLoss) => {
    onLoss('3 writes are gone')
    throw new Error('no answer')
  })
  expect(await tell()).toBe('3 writes are gone')
})
