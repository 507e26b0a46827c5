import { expect, test } from 'vitest'
import { actionOf } from '../../test/support/action-of.ts'
import { queue } from './queue.ts'

test('a queue is on REDIS_URL unless another is named, and its name is one that BullMQ takes', () => {
  expect(actionOf(queue({ name: 'crm' }), { REDIS_URL: 'redis://127.0.0.1' })).toMatchObject({
    redisUrl: 'redis://127.0.0.1',
    jobOptions: {},
  })
  expect(() => actionOf(queue({ name: 'crm' }))).toThrow('REDIS_URL is not set')
  expect(() => actionOf(queue({ name: 'a:b', redisUrl: 'redis://127.0.0.1' }))).toThrow('without ":"')
  expect(() => actionOf(queue({ name: 'crm', redisUrl: 'postgres://127.0.0.1' }))).toThrow('redisUrl must have')
})
