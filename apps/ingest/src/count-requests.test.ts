import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import type { QueuedCounts, StoreJob } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import type { Spool, SpooledGroup } from '@ringback/core/spool'
import { createCountRequests } from './count-requests.ts'
import { createCounts } from './counts.ts'
import type { Outcome } from './receive-request.ts'

const MINUTE = Date.parse('2026-01-01T12:00:00Z')

/** Counts, and collects what the worker would get. */
function counting({
  fails = () => false,
  intervalMs = 1_000_000,
  spool,
}: { fails?: () => boolean; intervalMs?: number; spool?: Pick<Spool, 'append'> } = {}) {
  const sent: { id: string; job: StoreJob }[] = []
  const counts = createCounts<QueuedCounts>({
    kind: 'counted',
    intervalMs,
    add: async (id, job) => {
      sent.push({ id, job })
      if (fails()) throw new Error('away')
    },
    spool,
    log: createLogger('test', 'silent'),
  })
  let now = MINUTE
  const count = createCountRequests(counts, () => now)
  return {
    at: (ms: number) => (now = MINUTE + ms),
    count: (source: string, ...outcomes: Outcome['kind'][]) => {
      for (const outcome of outcomes) count({ source, outcome, durationMs: 3 })
    },
    sent,
    counted: async () => {
      await counts.close()
      return JSON.parse(sent.at(-1)!.job.counted!) as QueuedCounts[]
    },
  }
}

test('requests are counted by source, minute and outcome', async () => {
  const { at, count, counted } = counting()
  count('a', 'accepted', 'forged', 'accepted')
  count('b', 'accepted')
  at(60_000)
  count('a', 'accepted')
  expect(await counted()).toMatchObject([
    { minute: '2026-01-01T12:00:00.000Z', source: 'a', outcomes: { accepted: 2, forged: 1 } },
    { minute: '2026-01-01T12:00:00.000Z', source: 'b', outcomes: { accepted: 1 } },
    { minute: '2026-01-01T12:01:00.000Z', source: 'a', outcomes: { accepted: 1 } },
  ])
})

test('names that are no sources count as one, so that nobody can fill the memory with them', async () => {
  const { count, counted } = counting()
  for (let index = 0; index < 1000; index += 1) count(`made-up-${index}`, 'unknown_source')
  expect(await counted()).toMatchObject([{ source: '', outcomes: { unknown_source: 1000 } }])
})

test('an accepted request ends a row of refusals, and failures of our own are no part of one', async () => {
  const { at, count, counted } = counting()
  count('a', 'forged', 'accepted')
  at(10)
  count('a', 'unreadable')
  at(20)
  count('a', 'not_durable', 'too_large', 'client_gone', 'method_not_allowed')
  const [entry] = await counted()
  expect(entry).toMatchObject({
    refusedInARow: 3,
    lastAcceptedAt: MINUTE,
    refusedSince: MINUTE + 10,
    lastRefusedAt: MINUTE + 20,
  })
})

test('counts that could not be sent go again under the same id, so that they count once', async () => {
  let isDown = true
  const { count, sent, counted } = counting({ fails: () => isDown })
  count('a', 'accepted')
  await counted()
  isDown = false
  count('a', 'accepted')
  await counted()
  expect(sent).toHaveLength(3)
  expect(sent[1]).toEqual(sent[0])
  expect(sent[2]!.id).not.toBe(sent[0]!.id)
})

test('counts that the queue has not taken when ingest stops go to the spool, those that were sent under their id', async () => {
  const spooled: SpooledGroup[] = []
  const spool = { append: async (group: SpooledGroup) => void spooled.push(group) }
  const { count, sent, counted } = counting({ fails: () => true, intervalMs: 5, spool })
  count('a', 'accepted')
  await vi.waitFor(() => expect(sent).not.toEqual([]), { interval: 5, timeout: 5000 })
  count('b', 'accepted')
  await counted()
  expect(spooled.map(({ id, job }) => ({ id, job }))).toEqual([
    sent[0],
    { id: expect.any(String), job: expect.anything() },
  ])
  expect((spooled[1]!.job as StoreJob).counted).toContain('"b"')
})

test('counts are sent now and then as long as there are any, whatever failed before', async () => {
  let isDown = true
  let meanwhile = 1
  const { count, sent, counted } = counting({
    intervalMs: 5,
    fails() {
      if (!isDown && meanwhile-- > 0) count('b', 'accepted')
      return isDown
    },
  })
  const newest = () => sent.at(-1)?.job.counted
  const eventually = (check: () => void) => vi.waitFor(check, { interval: 5, timeout: 5000 })
  count('a', 'accepted')
  await eventually(() => expect(sent.length).toBeGreaterThan(2))
  isDown = false
  await eventually(() => expect(newest()).toContain('"b"'))
  const { length } = sent
  await sleep(20)
  expect(sent).toHaveLength(length)
  count('c', 'accepted')
  await eventually(() => expect(newest()).toContain('"c"'))
  await counted()
  expect(sent).toHaveLength(length + 1)
})

test('what is more than can be gathered in an outage of hours is not counted, and ends no process', async () => {
  const { at, count, counted } = counting()
  for (let minute = 0; minute <= 10_000; minute++) {
    at(minute * 60_000)
    count('a', 'accepted')
  }
  expect(await counted()).toHaveLength(10_000)
})
