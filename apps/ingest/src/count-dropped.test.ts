import { afterEach, expect, test, vi } from 'vitest'
import type { QueuedDrop, StoreJob } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import { createCountDropped } from './count-dropped.ts'
import { createCounts } from './counts.ts'

afterEach(() => vi.useRealTimers())

test('counts of what is not kept are sent once, under the same id until they arrive', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const adds: { id: string; job: StoreJob; succeed: () => void; fail: (error: Error) => void }[] = []
  const counts = createCounts<QueuedDrop>({
    kind: 'dropped',
    intervalMs: 1000,
    add: (id, job) => new Promise<void>((succeed, fail) => adds.push({ id, job, succeed, fail })),
    log: createLogger('test', 'silent'),
  })
  const countDropped = createCountDropped(counts)
  for (let index = 0; index < 5; index++) countDropped('voximplant', 'hash_mismatch')
  countDropped('voximplant', 'too_large')
  await vi.advanceTimersByTimeAsync(1000)
  expect(adds).toHaveLength(1)
  countDropped('voximplant', 'hash_mismatch')
  adds[0]!.fail(new Error('timed out, perhaps applied'))
  await vi.advanceTimersByTimeAsync(1000)
  expect(adds[1]).toMatchObject({ id: adds[0]!.id, job: adds[0]!.job })
  adds[1]!.succeed()
  await vi.advanceTimersByTimeAsync(1000)
  const sent = [adds[1]!, adds[2]!].flatMap(({ job }) => JSON.parse(job.dropped) as QueuedDrop[])
  expect(sent).toEqual([
    { source: 'voximplant', reason: 'hash_mismatch', count: 5 },
    { source: 'voximplant', reason: 'too_large', count: 1 },
    { source: 'voximplant', reason: 'hash_mismatch', count: 1 },
  ])
})
