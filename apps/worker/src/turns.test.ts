import { expect, test } from 'vitest'
import { createTurns } from './turns.ts'

const limits = { perHandler: 2, crowd: 5, maxWaitMs: 60_000 }

test('a few jobs of each handler run at once, and the others have their turn in the order in which they came', async () => {
  const turns = createTurns(limits)
  expect(await Promise.all([turns.begin('a'), turns.begin('a')])).toEqual([true, true])
  expect(turns.isFull('a')).toBe(true)
  const order: string[] = []
  const third = turns.begin('a').then((mayRun) => order.push(`third ${mayRun}`))
  const fourth = turns.begin('a').then((mayRun) => order.push(`fourth ${mayRun}`))
  expect(await turns.begin('b')).toBe(true)
  expect(order).toEqual([])
  turns.end('a')
  await third
  // It has taken the place of the one that ended.
  expect(turns.isFull('a')).toBe(true)
  turns.end('a')
  await fourth
  expect(order).toEqual(['third true', 'fourth true'])
  turns.end('a')
  turns.end('a')
  expect(turns.isFull('a')).toBe(false)
})

test('none waits where so many jobs are in hand that others might find no room', async () => {
  const turns = createTurns(limits)
  for (const handler of ['a', 'a', 'b', 'b', 'c']) expect(await turns.begin(handler)).toBe(true)
  expect(turns.isCrowded()).toBe(true)
  expect(await turns.begin('a')).toBe(false)
  // A handler that has room runs all the same.
  expect(await turns.begin('c')).toBe(true)
})

test('a job that goes first has the next turn, however many wait or are in hand', async () => {
  const turns = createTurns(limits)
  for (const handler of ['a', 'a', 'b']) expect(await turns.begin(handler)).toBe(true)
  const order: string[] = []
  const begun = [
    turns.begin('a').then(() => order.push('one')),
    turns.begin('a').then(() => order.push('another')),
    turns.begin('a', true).then(() => order.push('first')),
  ]
  expect(turns.isCrowded()).toBe(true)
  for (let ended = 0; ended < 3; ended++) turns.end('a')
  await Promise.all(begun)
  expect(order).toEqual(['first', 'one', 'another'])
})

test('a turn that does not come in time is given up, and never handed out twice', async () => {
  const turns = createTurns({ ...limits, perHandler: 1, maxWaitMs: 10 })
  expect(await turns.begin('a')).toBe(true)
  expect(await turns.begin('a')).toBe(false)
  turns.end('a')
  expect(turns.isFull('a')).toBe(false)
  expect(await turns.begin('a')).toBe(true)
})

test('a job that has ended, or has waited in vain, is no longer in hand', async () => {
  const turns = createTurns({ perHandler: 1, crowd: 3, maxWaitMs: 10 })
  expect(await turns.begin('a')).toBe(true)
  for (let time = 0; time < 5; time++) {
    expect(await turns.begin('a')).toBe(false)
    expect(await turns.begin('b')).toBe(true)
    turns.end('b')
  }
  expect(turns.isCrowded()).toBe(false)
  const next = turns.begin('a')
  turns.end('a')
  expect(await next).toBe(true)
  for (const handler of ['b', 'c']) expect(await turns.begin(handler)).toBe(true)
  expect(turns.isCrowded()).toBe(true)
})
