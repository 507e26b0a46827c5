/**
 * What an error while storing means:
 * - `refused`: Postgres will never take these data, however often it is asked
 * - `down`: Postgres takes nothing at the moment, from anybody
 * - `stuck`: the cause may be these data or the server; other data may well succeed
 */
export type Verdict = 'refused' | 'down' | 'stuck'

/** Classes of SQLSTATE. */
const REFUSED = [
  '22', // data exception: a text that is no jsonb, a date out of range
  '23', // a constraint does not hold
  '54', // a limit of the program: nesting, an index entry too large
]

const DOWN = [
  '08', // the connection
  '25', // a read-only transaction: a standby, or a server whose disk somebody watches
  '28', // the password or pg_hba.conf
  '3D', // the database is not there (yet)
  '53', // out of connections, memory or disk
  '57', // shutting down, starting up; but see below
  '58', // the system: a file, the disk
]

/** The statement took longer than it may. The server may be slow, or just this group too large. */
export const TOO_LONG = '57014'

/** Classes that single values are known to cause, although Postgres does not count them as data exceptions. */
const OF_THE_DATA = [
  '0A', // not supported
  '21', // more rows than one
  'P0', // raised by a trigger
]

/** The SQLSTATE of an error; undefined if Postgres did not raise it. */
export function sqlState(error: unknown): string | undefined {
  const { code } = error as { code?: unknown }
  // No class begins with E, as EPIPE does.
  return typeof code === 'string' && /^[0-9FHPX][0-9A-Z]{4}$/.test(code) ? code : undefined
}

/** What `error` means. If Postgres did not raise it, the network's are `down`, and a mistake of ours is `stuck`. */
export function verdictOn(error: unknown): Verdict {
  const code = sqlState(error)
  // An error of the network has a code of its own; a mistake of this program has none.
  if (code === undefined) return typeof (error as { code?: unknown }).code === 'string' ? 'down' : 'stuck'
  if (code === TOO_LONG) return 'stuck'
  if (REFUSED.includes(code.slice(0, 2))) return 'refused'
  return DOWN.includes(code.slice(0, 2)) ? 'down' : 'stuck'
}

/** Whether single callbacks can be to blame for an error that is no refusal. Not so for locks, deadlocks, broken indexes. */
export function mayBeTheData(error: unknown): boolean {
  const code = sqlState(error)
  return code !== undefined && (code === TOO_LONG || OF_THE_DATA.includes(code.slice(0, 2)))
}
