import type { HandledEvent, HandlerContext } from '@ringback/core/handlers'
import { expect, test } from 'vitest'
import { freePort } from '../../../../test/support/free-port.ts'
import { createRequest } from './forward.ts'
import { createQueue, jobData } from './queue.ts'

const event: HandledEvent = {
  id: '01990000-0000-7000-8000-000000000001',
  receivedAt: new Date('2026-03-01T12:00:01Z'),
  source: 'voximplant',
  accountId: '1',
  callbackId: '42',
  type: 'sms_inbound',
  callId: null,
  verifiedBy: 'id',
  occurredAt: new Date('2026-03-01T12:00:00Z'),
  payload: { text: 'hi' },
  details: { text: 'hi' },
}

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
