import { describe, expect, test } from 'vitest'
import { watch } from './watchdog.ts'
import type { Look, Watched } from './watchdog.ts'

const standing: Look = { waiting: 3, oldestAt: 1000, moves: 7, isFree: true }

/** How long the watchdog thinks that nothing has moved, after a look every 5 s. */
function stoodFor(...looks: { look?: Partial<Look>; serversAnswer?: boolean }[]): number {
  let watched: Watched | undefined
  let now = 0
  for (const { look, serversAnswer = true } of looks) {
    now += 5000
    watched = watch(watched, { ...standing, ...look }, now, serversAnswer)
  }
  return now - watched!.since
}

test('time counts while work waits that nobody takes, though this worker could', () => {
  expect(stoodFor({}, {}, {})).toBe(10_000)
  expect(stoodFor({}, { look: { waiting: 9 } }, { look: { waiting: 20, oldestAt: 1040 } })).toBe(10_000)
})

describe('a healthy reason for standing still begins the time anew:', () => {
  test.each<[string, Parameters<typeof stoodFor>[0]]>([
    ['nothing waits', { look: { waiting: 0 } }],
    ['somebody has taken the oldest job', { look: { oldestAt: 2000 } }],
    ['somebody takes jobs', { look: { waiting: 2 } }],
    ['a job of this worker began, ended or had an answer', { look: { moves: 8 } }],
    ['all hands are full with jobs within their time', { look: { isFree: false } }],
    ['Postgres or the queue did not answer', { serversAnswer: false }],
  ])('%s', (_reason, seen) => {
    expect(stoodFor({}, {}, seen)).toBe(0)
  })
})

test('a server that comes back leaves the worker all its time to go on', () => {
  const away = { serversAnswer: false }
  expect(stoodFor({}, away, away, away, {})).toBe(5000)
})
