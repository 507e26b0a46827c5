import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parseDatabaseUrl } from './database-url.ts'
import { problemOf } from './problem-of.ts'

const ROOT_FILE = fileURLToPath(import.meta.url)

test('each form of DATABASE_URL says what it says', () => {
  expect(parseDatabaseUrl('postgres://ringback:p%40s%2Fs@db.example/ring%20back')).toEqual({
    hosts: [{ host: 'db.example', port: 5432 }],
    username: 'ringback',
    password: 'p@s/s',
    database: 'ring back',
  })
  expect(parseDatabaseUrl('postgresql://a:5433,[::1]/x?target_session_attrs=primary')).toEqual({
    hosts: [
      { host: 'a', port: 5433 },
      { host: '::1', port: 5432 },
    ],
    database: 'x',
    targetSessionAttrs: 'primary',
  })
  for (const url of [
    'postgres://u@/x?host=/run/pg',
    'postgres://u@%2Frun%2Fpg/x',
    'postgres://u@/x?host=%2Frun%2Fpg',
  ]) {
    expect(parseDatabaseUrl(url)).toEqual({ hosts: [{ host: '/run/pg', port: 5432 }], username: 'u', database: 'x' })
  }
  expect(parseDatabaseUrl('postgres://:5433/x?host=/run/pg&sslmode=require')).toEqual({
    hosts: [{ host: '/run/pg', port: 5433 }],
    database: 'x',
  })
})

test('a password may hold an @, and what hosts of Postgres add to their URLs is no mistake', () => {
  const url = 'postgres://u:p@ss@db/x?sslmode=require&channel_binding=require&connect_timeout=10&search_path=ringback'
  expect(parseDatabaseUrl(url)).toMatchObject({
    hosts: [{ host: 'db', port: 5432 }],
    password: 'p@ss',
    searchPath: 'ringback',
    tls: { rejectUnauthorized: false },
  })
})

test('sslmode is what libpq makes of it', () => {
  const tlsOf = (query: string) => parseDatabaseUrl(`postgres://db/x?${query}`).tls
  const ca = expect.stringContaining('sslmode is what libpq makes of it') as unknown
  const checkServerIdentity = expect.any(Function) as unknown
  expect(tlsOf('')).toBeUndefined()
  expect(tlsOf('sslmode=disable')).toBeUndefined()
  expect(tlsOf('sslmode=require')).toEqual({ rejectUnauthorized: false })
  expect(tlsOf(`sslmode=require&sslrootcert=${ROOT_FILE}`)).toEqual({ ca, checkServerIdentity })
  expect(tlsOf(`sslmode=verify-ca&sslrootcert=${ROOT_FILE}`)).toEqual({ ca, checkServerIdentity })
  expect(tlsOf('sslmode=verify-full')).toEqual({})
  expect(tlsOf(`sslmode=verify-full&sslrootcert=${ROOT_FILE}`)).toEqual({ ca })
})

test.each([
  ['mysql://u:secret@db/x', 'must have the form postgres://'],
  ['postgres://u:secret#1@db/x', 'percent-encoded'],
  ['postgres://u:secret/1@db/x', 'percent-encoded'],
  ['postgres://u:1?secret@db/x', 'percent-encoded'],
  ['postgres://u:secret%s@db/x', 'percent-encoding'],
  ['postgres://u:secret@db:99999/x', 'not host:port'],
  ['postgres://u:secret@a, b/x', 'not host:port'],
  ['postgres://u:secret@/x', 'not host:port'],
  ['postgres://u:secret@db/x?host=/run/pg', 'names a host twice'],
  ['postgres://u:secret@/x?host=db', 'which is for a folder'],
  ['postgres://u:secret@db/x?sslmode=prefer', 'none of disable, require'],
  ['postgres://u:secret@db/x?sslmode=verify-ca', 'without sslrootcert'],
  ['postgres://u:secret@db/x?sslrootcert=/nope', 'without TLS'],
  ['postgres://u:secret@db/x?sslmode=verify-full&sslrootcert=/secret', 'cannot be read (ENOENT)'],
  ['postgres://u:secret@db/x?target_session_attrs=any', 'none of read-write'],
  ['postgres://u:secret@db/x?schema=public', 'knows no parameter "schema"'],
])('%s is refused, and no secret is repeated', (url, problem) => {
  const found = problemOf(() => parseDatabaseUrl(url))
  expect(found).toContain(problem)
  expect(found).not.toContain('secret')
})
