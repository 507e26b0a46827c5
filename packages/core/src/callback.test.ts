import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { groupOf, queuedCallback, readStoreJob, storeJob } from './callback.ts'
import type { GroupPart } from './callback.ts'

const part = (kind: GroupPart['kind'], value: object): GroupPart => ({ kind, json: JSON.stringify(value) })

/** As many callbacks as make a group worth packing, in every kind of text. */
const many = Array.from({ length: 50 }, (_, index) =>
  part('callbacks', { id: String(index), type: 'Баланс ☎ \n "quoted" \u0000', raw: 'QUJD'.repeat(40) }),
)

test('a group comes out of its job as it went in, packed or not', () => {
  const few = [part('callbacks', { id: '1' }), part('quarantined', { id: '2' }), part('dropped', { count: 3 })]
  const reports = [part('canary', { ingest: 'here' }), part('counted', { minute: 'now' })]
  for (const parts of [[], few, reports, many, [...many, ...few, ...reports]]) {
    const job = storeJob(parts)
    expect(readStoreJob(JSON.parse(JSON.stringify(job)))).toEqual({ group: groupOf(parts) })
  }
})

test('a group of many callbacks takes a fraction of its size in the queue, one callback is left as it is', () => {
  const plain = JSON.stringify(groupOf(many)).length
  expect(JSON.stringify(storeJob(many)).length).toBeLessThan(plain / 5)
  expect(storeJob(many.slice(0, 1))).not.toHaveProperty('packed')
})

test('a large callback is packed only if that makes it smaller', () => {
  const large = (raw: Buffer) => [part('callbacks', { id: '1', raw: raw.toString('base64') })]
  const file = large(Buffer.from(JSON.stringify({ file: randomBytes(400_000).toString('base64') })))
  expect(storeJob(file)).toEqual({ version: '1', ...groupOf(file) })
  const text = large(Buffer.from('a long text, '.repeat(40_000)))
  expect(storeJob(text)).toHaveProperty('packed')
})

test('what cannot be read is said to be so, and never taken for an empty group', () => {
  const { packed, ...rest } = storeJob(many)
  expect(readStoreJob({ ...rest, packed: packed!.slice(0, -40) })).toEqual({ unreadable: ['packed'] })
  expect(readStoreJob({ ...rest, packed: 'AAAA' })).toEqual({ unreadable: ['packed'] })
  expect(readStoreJob({ ...rest, packed: Buffer.from([0x03, 0]).toString('base64') })).toEqual({
    unreadable: ['packed'],
  })
  expect(readStoreJob({ version: '2' })).toEqual({
    unreadable: ['callbacks', 'quarantined', 'dropped', 'version'],
  })
  expect(readStoreJob(null)).toHaveProperty('unreadable')
})

test('a number that jsonb would print with all its digits is a text in the payload, and raw has the exact bytes', () => {
  const queue = (json: string) => {
    const raw = Buffer.from(json)
    const callback = {
      kind: 'genuine' as const,
      raw,
      accountId: '',
      callbackId: '1',
      type: '',
      verifiedBy: 'body' as const,
      occurredAt: new Date(),
    }
    return queuedCallback(callback, { source: 'any', method: 'POST', url: '/', headers: {} })
  }
  const large = '{"a":1e131071,"b":[-2.5E-999],"c":1e10,"d":"1e999"}'
  expect(queue(large)).toMatchObject({
    raw: Buffer.from(large).toString('base64'),
    payload: '{"a":"1e131071","b":["-2.5E-999"],"c":1e10,"d":"1e999"}',
  })
  expect(queue('{"c":1e10,"d":"1e999"}').payload).toBeUndefined()
})
