import type { HandlerContext } from '@ringback/core/handlers'
import { expect, test } from 'vitest'
import { anEvent } from '../../../../test/support/an-event.ts'
import { freePort } from '../../../../test/support/free-port.ts'
import { createRequest } from './forward.ts'
import { createQueue, jobData } from './queue.ts'

const event = anEvent({ details: { text: 'hi' } })

test('a job holds the event as forward sends it as JSON', () => {
  const forwarded = { event, payloadJson: JSON.stringify(event.payload), request: undefined, source: undefined }
  const attempt = { idempotencyKey: 'key', attempt: 1, now: new Date() }
  const { body } = createRequest(
    { as: 'json', headers: {}, signingKeys: [] },
    'https://example.com',
    forwarded,
    attempt,
  )
  expect(JSON.stringify(jobData(event))).toBe(body!.toString())
})

test('a handler that has found no sentinel can be closed', async () => {
  const redisUrl = `redis+sentinel://127.0.0.1:${await freePort()}/mymaster`
  const [unset, timeoutMs] = [undefined, 300]
  const action = {
    kind: 'queue',
    redisUrl,
    name: 'crm',
    jobName: unset,
    prefix: unset,
    jobOptions: {},
    timeoutMs,
  } as const
  const { run, close } = createQueue(action)
  const context = { signal: AbortSignal.timeout(timeoutMs), idempotencyKey: 'key' } as HandlerContext
  await expect(run(event, context, undefined, '{}')).rejects.toThrow('not done within 300 ms')
  await close()
})
