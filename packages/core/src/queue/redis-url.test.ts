import { expect, test } from 'vitest'
import { parseRedisUrl } from './redis-url.ts'
import { problemOf } from '../problem-of.ts'

test('each form of REDIS_URL says what it says', () => {
  expect(parseRedisUrl('rediss://:secret@redis:6380/2')).toEqual({
    kind: 'single',
    host: 'redis',
    port: 6380,
    database: 2,
    password: 'secret',
    isTls: true,
  })
  expect(parseRedisUrl('redis://[::1]/?family=0')).toEqual({
    kind: 'single',
    host: '::1',
    port: 6379,
    database: 0,
    isTls: false,
  })
  expect(parseRedisUrl('redis+sentinel://:p%40ss@a,b:26380,[::1]:26381/mymaster/3?sentinelPassword=s%26t')).toEqual({
    kind: 'sentinel',
    sentinels: [
      { host: 'a', port: 26379 },
      { host: 'b', port: 26380 },
      { host: '::1', port: 26381 },
    ],
    name: 'mymaster',
    database: 3,
    password: 'p@ss',
    sentinelPassword: 's&t',
    isTls: false,
  })
  expect(parseRedisUrl('rediss+cluster://ringback:a:b@one:7000,two')).toEqual({
    kind: 'cluster',
    nodes: [
      { host: 'one', port: 7000 },
      { host: 'two', port: 6379 },
    ],
    username: 'ringback',
    password: 'a:b',
    isTls: true,
  })
})

test.each([
  ['http://:secret@redis', 'must have one of the forms'],
  ['redis://:secret#1@redis', 'percent-encoded'],
  ['redis://:secret/1@redis', 'percent-encoded'],
  ['redis://:1?secret@redis', 'percent-encoded'],
  ['redis://:secret%@redis', 'percent-encoding'],
  ['redis://:secret@redis:99999', 'not host:port'],
  ['redis://:secret@redis/abc', 'not a number'],
  ['redis://:secret@redis/1/2', 'not a number'],
  ['redis://:secret@redis?db=1', 'knows no parameter "db"'],
  ['redis://:secret@a,b', 'several hosts'],
  ['redis+sentinel://:secret@a,b', 'lacks the name'],
  ['redis+sentinel://:secret@a/mymaster/x', 'not a number'],
  ['redis+sentinel://:secret@a/mymaster/1/2', 'not a number'],
  ['redis+sentinel://:secret@a/mymaster?password=secret', 'knows no parameter "password"'],
  ['redis+cluster://:secret@a,b/1', 'has only one'],
  ['redis+cluster://:secret@a, b', 'not host:port'],
  ['redis+cluster://:secret@a:0', 'not host:port'],
  ['redis+cluster://:secret@', 'not host:port'],
  ['redis+cluster://:secret%@a', 'percent-encoding'],
])('%s is refused, and no secret is repeated', (url, problem) => {
  const found = problemOf(() => parseRedisUrl(url))
  expect(found).toContain(problem)
  expect(found).not.toContain('secret')
})
