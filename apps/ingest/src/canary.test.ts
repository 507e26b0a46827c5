import { expect, test, vi } from 'vitest'
import type { GroupPart, QueuedCanary } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import { startCanary } from './canary.ts'

// The enqueuer here is a function: what matters is what is sent, and when nothing is. The real path is tested in test/.

const eventually = (check: () => void) => vi.waitFor(check, { interval: 5, timeout: 5000 })

function start({ isAway = false, detectLoss = async (): Promise<string | undefined> => undefined } = {}) {
  const state = { isAway, fails: false, tries: 0, looks: 0, sent: [] as QueuedCanary[] }
  const canary = startCanary({
    enqueuer: {
      isQueueDown() {
        state.looks += 1
        return state.isAway
      },
      async enqueue(parts: GroupPart[]) {
        state.tries += 1
        if (state.fails) throw new Error('no')
        for (const { kind, json } of parts) {
          expect(kind).toBe('canary')
          state.sent.push(JSON.parse(json) as QueuedCanary)
        }
      },
    },
    intervalMs: 5,
    spool: () => ({ groups: 2, bytes: 300 }),
    detectLoss,
    log: createLogger('test', 'silent'),
  })
  return { canary, state }
}

test('canaries come at once and then again and again, with what waits in the spool, and say which one is the last', async () => {
  const { canary, state } = start()
  await eventually(() => expect(state.sent.length).toBeGreaterThan(3))
  await canary.close()
  const { length } = state.sent
  for (const { spool } of state.sent) expect(spool).toEqual({ groups: 2, bytes: 300 })
  expect(state.sent.map(({ isLast }) => isLast)).toEqual([...Array<undefined>(length - 1), true])
  const times = state.sent.map(({ sentAt }) => sentAt)
  expect(times).toEqual(times.toSorted((a, b) => a - b))
})

test('the time of the start follows the clock when that is set right', async () => {
  const clock = vi.spyOn(Date, 'now').mockReturnValue(5000)
  const { canary, state } = start()
  await eventually(() => expect(state.sent.length).toBeGreaterThan(0))
  clock.mockRestore()
  const setAt = Date.now()
  await canary.close()
  expect(state.sent[0]!.startedAt).toBeLessThanOrEqual(5000)
  const { startedAt, sentAt } = state.sent.at(-1)!
  expect(startedAt).toBeGreaterThan(setAt - 60_000)
  expect(startedAt).toBeLessThanOrEqual(sentAt)
})

test('while the queue is down no canary is sent, not even into the spool', async () => {
  const { canary, state } = start({ isAway: true })
  await eventually(() => expect(state.looks).toBeGreaterThan(3))
  expect(state.tries).toBe(0)
  state.isAway = false
  await eventually(() => expect(state.sent.length).toBeGreaterThan(0))
  state.isAway = true
  await canary.close()
  expect(state.sent.some(({ isLast }) => isLast)).toBe(false)
})

test('a loss is told by the first canary that arrives, and once', async () => {
  const losses = ['the server lost 3 writes']
  const { canary, state } = start({ detectLoss: async () => losses.shift() })
  state.fails = true
  await eventually(() => expect(state.tries).toBeGreaterThan(2))
  state.fails = false
  await eventually(() => expect(state.sent.length).toBeGreaterThan(2))
  await canary.close()
  const [first, ...later] = state.sent.map(({ lost }) => lost)
  expect(first).toBe('the server lost 3 writes')
  expect(later.every((lost) => lost === undefined)).toBe(true)
})

test('a queue that does not say whether it has lost anything gets no canary', async () => {
  const { canary, state } = start({ detectLoss: () => Promise.reject(new Error('no answer')) })
  await eventually(() => expect(state.looks).toBeGreaterThan(3))
  await canary.close()
  expect(state.tries).toBe(0)
})
