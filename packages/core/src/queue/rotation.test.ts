import { expect, onTestFinished, test, vi } from 'vitest'
import { createRotation } from './rotation.ts'

function aRotation(probe: (member: string) => Promise<void> = async () => {}) {
  vi.useFakeTimers()
  const rotation = createRotation(['a', 'b', 'c'], probe)
  onTestFinished(() => {
    rotation.close()
    vi.useRealTimers()
  })
  return { rotation, next: () => rotation.next().join('') }
}

test('each is first in its turn, and the others are tried after it', () => {
  const { next } = aRotation()
  expect([next(), next(), next(), next()]).toEqual(['bca', 'cab', 'abc', 'bca'])
})

test('after one that fails no neighbour is tried first, which may be on the same server', () => {
  const rotation = createRotation(['a', 'b', 'c', 'd', 'e', 'f'], async () => {})
  const orders = Array.from({ length: 6 }, () => rotation.next().join(''))
  expect(orders).toEqual(['befacd', 'cfabde', 'dabcef', 'ebcdfa', 'fcdeab', 'adefbc'])
})

test('who is left out is not tried until it is taken back, unless all are left out', () => {
  const { rotation, next } = aRotation()
  rotation.leaveOut('b')
  expect([next(), next(), next()]).toEqual(['ca', 'ca', 'ac'])
  rotation.leaveOut('a')
  rotation.leaveOut('c')
  expect(next()).toBe('bca')
  rotation.takeBack('c')
  expect(next()).toBe('c')
})

test('who is left out is probed twice a second, and comes back when its probe succeeds', async () => {
  const down = new Set(['a', 'b'])
  const probe = vi.fn(async (member: string) => {
    if (down.has(member)) throw new Error('down')
  })
  const { rotation, next } = aRotation(probe)
  for (const member of down) rotation.leaveOut(member)
  await vi.advanceTimersByTimeAsync(1000)
  expect(probe.mock.calls.flat()).toEqual(['a', 'b', 'a', 'b'])
  expect(next()).toBe('c')

  down.delete('a')
  await vi.advanceTimersByTimeAsync(500)
  expect(next()).toBe('ca')
})

test('who is left out again, after all were there, is probed again', async () => {
  const probe = vi.fn(async () => {})
  const { rotation, next } = aRotation(probe)
  for (let time = 0; time < 2; time++) {
    rotation.leaveOut('a')
    await vi.advanceTimersByTimeAsync(1000)
    expect([next(), next(), next()].join('')).toContain('a')
  }
  expect(probe).toHaveBeenCalledTimes(2)
})

test('nobody is probed while all are there, nor after the end', async () => {
  const probe = vi.fn(async () => {})
  const { rotation } = aRotation(probe)
  rotation.leaveOut('a')
  await vi.advanceTimersByTimeAsync(1000)
  expect(probe).toHaveBeenCalledTimes(1)
  expect(vi.getTimerCount()).toBe(0)

  rotation.leaveOut('a')
  rotation.close()
  expect(vi.getTimerCount()).toBe(0)
})
