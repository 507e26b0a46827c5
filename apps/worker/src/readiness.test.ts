import { expect, test } from 'vitest'
import { createReady } from './readiness.ts'

test('ready means that every part has answered', async () => {
  const answers = async () => {}
  const fails = () => Promise.reject(new Error('no'))
  expect(await createReady([answers, answers], 1000)()).toBe(true)
  expect(await createReady([answers, fails], 1000)()).toBe(false)
})

test('a part that has answered is asked again the next time', async () => {
  let isUp = true
  const ready = createReady([() => (isUp ? Promise.resolve() : Promise.reject(new Error('no')))], 1000)
  expect(await ready()).toBe(true)
  isUp = false
  expect(await ready()).toBe(false)
  isUp = true
  expect(await ready()).toBe(true)
})

test('a part that does not answer makes nobody wait, and is asked once until it does', async () => {
  let asked = 0
  const answer = Promise.withResolvers<void>()
  const ready = createReady([() => ((asked += 1), answer.promise)], 20)
  expect(await Promise.all([ready(), ready(), ready()])).toEqual([false, false, false])
  expect(await ready()).toBe(false)
  expect(asked).toBe(1)
  answer.resolve()
  await answer.promise
  expect(await ready()).toBe(true)
})
