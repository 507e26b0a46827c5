import { expect, test } from 'vitest'
import { createUntilItSucceeds } from './until-it-succeeds.ts'

/** Tries once a second what fails with `problems`, one after the other, and then succeeds. */
async function tried(problems: string[]): Promise<{ result: string; said: [second: number, problem: string][] }> {
  const said: [number, string][] = []
  let second = 0
  const untilItSucceeds = createUntilItSucceeds({
    log: { warn: ({ problem }: { problem: string }) => void said.push([second, problem]) },
    pause: async () => void (second += 1),
    now: () => second * 1000,
  })
  const result = await untilItSucceeds(async () => {
    if (second < problems.length) throw new Error(problems[second])
    return 'done'
  })
  return { result, said }
}

test('a worker that waits says why once, again when that changes, and else every minute', async () => {
  const problems = [...Array.from({ length: 130 }, () => 'away'), 'lacks migrations', 'lacks migrations', 'away']
  expect(await tried(problems)).toEqual({
    result: 'done',
    said: [
      [0, 'away'],
      [60, 'away'],
      [120, 'away'],
      [130, 'lacks migrations'],
      [132, 'away'],
    ],
  })
})

test('what succeeds at once says nothing', async () => {
  expect(await tried([])).toEqual({ result: 'done', said: [] })
})

test('where the wait between two tries is given up, nothing more is tried', async () => {
  let tries = 0
  const pause = () => Promise.reject(new Error('stopping'))
  const untilItSucceeds = createUntilItSucceeds({ log: { warn: () => {} }, pause })
  const done = untilItSucceeds(async () => {
    tries += 1
    if (tries < 3) throw new Error('away')
  })
  await expect(done).rejects.toThrow('stopping')
  expect(tries).toBe(1)
})
