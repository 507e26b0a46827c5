import { DrizzleQueryError } from 'drizzle-orm'
import { parseDatabaseUrl } from '../database-url.ts'

/** SQLSTATEs: no such table, column or function. */
const LACKS_MIGRATIONS = new Set(['42P01', '42703', '42883'])
/** SQLSTATEs: wrong role or password, no such database, too many connections, starting or stopping. */
const REFUSES = /^(28|3D|53|57P0)/
const DOES_NOT_ANSWER = new Set([
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
  'CONNECTION_SILENT',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'ETIMEDOUT',
])

/** Node's codes for a certificate that it does not accept. */
const CERTIFICATE = /CERT|UNABLE_TO_VERIFY/

/**
 * Turns an error of the database at `url` into one that says what is wrong and how to mend it. Other errors are returned as
 * they are, without Drizzle's wrapper. `isNamed` says whether `url` is from DATABASE_URL; if not, it is that of `npm start`.
 */
export function explainPostgresError(thrown: unknown, url: string, { isNamed = true } = {}): unknown {
  // Drizzle's own error shows only the query.
  const cause = thrown instanceof DrizzleQueryError ? (thrown.cause ?? thrown) : thrown
  const explanation = explain(cause as Error & { code?: string }, placeOf(url), isNamed)
  return explanation === undefined ? cause : new Error(explanation, { cause })
}

function explain(
  { code = '', message }: { code?: string; message: string },
  place: string,
  isNamed: boolean,
): string | undefined {
  if (LACKS_MIGRATIONS.has(code)) {
    return 'The database lacks migrations of this version: run "ringback migrate"'
  }
  if (REFUSES.test(code)) {
    return `Postgres at ${place} refuses: ${message}; ${isNamed ? 'DATABASE_URL says where it is' : 'set DATABASE_URL to yours'}`
  }
  if (/^permission denied for (database|schema) /.test(message)) {
    return `Postgres at ${place} refuses: ${message}; to migrate, the role needs CREATE on schema public, and for a queue in Postgres on the database ("grant create on database ... to ...")`
  }
  if (message.startsWith('unsupported startup parameter')) {
    return `What answers at ${place} is a connection pooler (${message}): DATABASE_URL must lead to Postgres itself, for Ringback sets its sessions up and keeps them`
  }
  if (message.startsWith('unrecognized configuration parameter')) {
    return `Postgres at ${place} is too old (${message}): Ringback needs 18 or later`
  }
  if (CERTIFICATE.test(code)) {
    return `The certificate of Postgres at ${place} is refused: ${message}; docs/configuration.md tells of sslmode and sslrootcert`
  }
  if (!DOES_NOT_ANSWER.has(code)) return undefined
  const question = isNamed
    ? 'is it running, and is DATABASE_URL right?'
    : 'is `npm start` running? For another database, set DATABASE_URL'
  return `Postgres does not answer at ${place}: ${question}`
}

function placeOf(url: string): string {
  return parseDatabaseUrl(url)
    .hosts.map(({ host, port }) => `${host}:${port}`)
    .join(',')
}
