import { expect, test } from 'vitest'
import { lazily } from './lazily.ts'

test('a thing is made once, when it is first used, and again where that failed', async () => {
  let made = 0
  const thing = lazily(async () => {
    made += 1
    if (made === 1) throw new Error('away')
    return made
  })
  expect(await thing.current()).toBeUndefined()
  await expect(thing.get()).rejects.toThrow('away')
  expect(await Promise.all([thing.get(), thing.get()])).toEqual([2, 2])
  expect(await thing.get()).toBe(2)
  expect(await thing.current()).toBe(2)
})
