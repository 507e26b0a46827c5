import { DrizzleQueryError } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { explainPostgresError } from './explain-postgres-error.ts'

const URL = 'postgres://a:hu%40sh@db.example:5432,other:5433/x?target_session_attrs=primary'

function explained(code: string, message: string): string {
  return (explainPostgresError(Object.assign(new Error(message), { code }), URL) as Error).message
}

test.each([
  [
    '42P01',
    'relation "events" does not exist',
    /^The database lacks migrations of this version: run "ringback migrate"$/,
  ],
  [
    '28P01',
    'password authentication failed',
    /^Postgres at db\.example:5432,other:5433 refuses: password auth.*; DATABASE_URL/,
  ],
  ['3D000', 'database "x" does not exist', /refuses: database "x" does not exist; DATABASE_URL says where it is/],
  [
    'ENOTFOUND',
    'getaddrinfo ENOTFOUND db.example',
    /^Postgres does not answer at db\.example:5432,other:5433: is it running/,
  ],
  [
    'SELF_SIGNED_CERT_IN_CHAIN',
    'self-signed certificate in certificate chain',
    /^The certificate of Postgres at db\.example:5432,other:5433 is refused: self-signed .*sslrootcert$/,
  ],
  [
    '42501',
    'permission denied for database x',
    /^Postgres at \S+ refuses: permission denied for database x; to migrate, the role needs .*"grant create on database/,
  ],
  [
    '08P01',
    'unsupported startup parameter: enable_seqscan',
    /^What answers at db\.example:5432,other:5433 is a connection pooler .*: DATABASE_URL must lead to Postgres itself/,
  ],
  [
    '42704',
    'unrecognized configuration parameter "transaction_timeout"',
    /^Postgres at db\.example:5432,other:5433 is too old \(.*\): Ringback needs 18 or later$/,
  ],
  ['42883', 'function store_callbacks(...) does not exist', /lacks migrations/],
  ['ETIMEDOUT', 'connect ETIMEDOUT', /^Postgres does not answer at .*is DATABASE_URL right\?/],
])('%s says what to do, and shows no password', (code, message, expected) => {
  expect(explained(code, message)).toMatch(expected)
  expect(explained(code, message)).not.toContain('sh@')
})

test('where DATABASE_URL is not set, the database of `npm start` is meant, and nothing is asked about the variable', () => {
  const of = (code: string) =>
    explainPostgresError(Object.assign(new Error('cause'), { code }), 'postgres://a:b@127.0.0.1:5433/x', {
      isNamed: false,
    })
  expect(of('ECONNREFUSED')).toMatchObject({
    message:
      'Postgres does not answer at 127.0.0.1:5433: is `npm start` running? For another database, set DATABASE_URL',
  })
  expect(of('28P01')).toMatchObject({ message: 'Postgres at 127.0.0.1:5433 refuses: cause; set DATABASE_URL to yours' })
})

test('what the query builder wraps is told as it is', () => {
  const cause = Object.assign(new Error('relation "events" does not exist'), { code: '42P01' })
  expect(explainPostgresError(new DrizzleQueryError('select ...', [], cause), URL)).toMatchObject({
    message: expect.stringContaining('lacks migrations'),
  })
})

test('what is no matter of the connection stays as it is', () => {
  for (const error of [
    new Error('There is no event'),
    Object.assign(new Error('no such folder'), { code: 'ENOENT' }),
  ]) {
    expect(explainPostgresError(error, URL)).toBe(error)
  }
})
