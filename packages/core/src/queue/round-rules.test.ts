import type { Job } from 'bullmq'
import { expect, test } from 'vitest'
import { apart, countAfter, hasPlaces, inOrder, isFull } from './round-rules.ts'

const aJob = (given: { id?: string; data?: unknown; stalledCounter?: number } = {}) =>
  ({ id: '1', data: {}, stalledCounter: 0, ...given }) as Job
const jobs = (count: number, bytes = 0) =>
  Array.from({ length: count }, () => aJob({ data: { groups: 'x'.repeat(bytes) } }))

const KIB = 1024

test('a round is full by the number of its jobs or by their size', () => {
  expect(isFull(jobs(31))).toBe(false)
  expect(isFull(jobs(32))).toBe(true)
  expect(isFull(jobs(2, 127 * KIB))).toBe(false)
  expect(isFull(jobs(2, 128 * KIB))).toBe(true)
  expect(hasPlaces(jobs(28), 4)).toBe(true)
  expect(hasPlaces(jobs(29), 4)).toBe(false)
})

test('the next round begins with as many jobs, with fewer after large ones, and always with one', () => {
  expect(countAfter(jobs(32, KIB))).toBe(32)
  expect(countAfter(jobs(8, 65 * KIB))).toBe(3)
  expect(countAfter(jobs(1, 1000 * KIB))).toBe(1)
})

test('a job that holds no text has no size', () => {
  const odd = [null, undefined, {}, { count: 5 }].map((data) => aJob({ data }))
  expect(isFull(odd)).toBe(false)
  expect(countAfter(odd)).toBe(4)
})

test('the jobs of a round are in the order of their ids', () => {
  expect(inOrder(['2', '10', '1'].map((id) => aJob({ id }))).map(({ id }) => id)).toEqual(['1', '10', '2'])
})

test('jobs that a process died with have rounds of their own, after that of the others, in any order', () => {
  const given = [
    aJob({ id: '1', stalledCounter: 1 }),
    aJob({ id: '2' }),
    aJob({ id: '3', stalledCounter: 2 }),
    aJob({ id: '4' }),
  ]
  const [others, ...suspects] = apart(given).map((round) => round.map(({ id }) => id).join())
  expect(others).toBe('2,4')
  expect(suspects).toHaveLength(2)
  expect(suspects).toEqual(expect.arrayContaining(['1', '3']))
  const first = () => apart(given)[1]![0]!.id
  expect(new Set(Array.from({ length: 100 }, first)).size).toBe(2)
  expect(apart(given.slice(0, 1))).toEqual([given.slice(0, 1)])
})
