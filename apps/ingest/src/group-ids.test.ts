import type * as Crypto from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { createLogger } from '@ringback/core/log'
import { createEnqueuer } from './enqueue.ts'

const clock = vi.hoisted(() => ({ ids: [] as string[] }))

vi.mock('node:crypto', async (importOriginal) => ({
  ...(await importOriginal<typeof Crypto>()),
  randomUUIDv7: () =>
    clock.ids.shift() ??
    (() => {
      throw new Error('it asks without end')
    })(),
}))

test('a clock that is set back is not waited for', async () => {
  // A minute earlier; then twice in one millisecond, of which the lesser is passed over.
  clock.ids = [
    '019b0000-2000-7000-8000-000000000000',
    '019b0000-1000-7000-8000-000000000005',
    '019b0000-1000-7000-8000-000000000004',
    '019b0000-1000-7000-8000-000000000006',
  ]
  const added: string[] = []
  const enqueuer = createEnqueuer({
    producer: { add: async (id) => void added.push(id), probe: async () => {}, close: async () => {} },
    log: createLogger('test', 'silent'),
    deadlineMs: 1000,
    addTimeoutMs: 400,
  })
  for (const json of ['1', '2', '3']) await enqueuer.enqueue([{ kind: 'callbacks', json }])
  expect(added.map((id) => id.slice(-4))).toEqual(['0000', '0005', '0006'])
})
