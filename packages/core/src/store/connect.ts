import postgres from 'postgres'
import { isSocket, parseDatabaseUrl } from '../database-url.ts'
import type { DatabaseAddress } from '../database-url.ts'

/** A pool of connections. Shared by everything in one process, apart from drizzle, which changes a client's parsers. */
export type Sql = postgres.Sql

/** One transaction on one of them. */
export type TransactionSql = postgres.TransactionSql

function toJson(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** Ids as the text of a Postgres array, to be cast by `::text::uuid[]`. */
export function uuidArray(rows: readonly { id: string }[]): string {
  return `{${rows.map(({ id }) => id).join(',')}}`
}

export interface ConnectOptions {
  /** The size of the pool. */
  max: number
  applicationName: string
  /**
   * The longest that a statement may take, in milliseconds; half a minute unless there is reason for more. A connection
   * over which an answer is awaited 5 s longer than that, without a byte of it, is given up: without a limit of one's
   * own a server that is frozen, or a network that is cut, holds a query until the kernel gives up, after a quarter of
   * an hour.
   */
  longestStatementMs?: number
  /** For a session that means something while it does nothing, such as one that holds an advisory lock: it is kept open. */
  keepsSession?: boolean
}

const LONGEST_STATEMENT_MS = 30_000
/** What changes many rows or reads all of a table: migrations, and commands of people. */
export const LONG_WORK_MS = 3_600_000
const SILENCE_MARGIN_MS = 5000
/** A transaction whose process is gone, or waits for something else, must not keep its locks. */
const IDLE_TRANSACTION_MS = 60_000

/**
 * Opens no connection until the first query. No query waits for ever: what has no answer in time is rejected, and the
 * next query gets another connection. Whether a rejected query was carried out is not known. `end()` takes as long as
 * the queries in hand, and a second more where the server is frozen.
 */
export function connect(url: string, options: ConnectOptions): Sql {
  const { max, applicationName, longestStatementMs = LONGEST_STATEMENT_MS, keepsSession = false } = options
  const address = parseDatabaseUrl(url)
  return postgres({
    ...serverOptions(address),
    max,
    connect_timeout: 5,
    silence_timeout: (longestStatementMs + SILENCE_MARGIN_MS) / 1000,
    ...(keepsSession && { max_lifetime: null }),
    // Seconds. By default it backs off to 20, while callbacks wait.
    backoff: (failures) => Math.min(failures * 0.1, 1),
    // Nothing here uses array or composite types, and each new connection would ask for them first.
    fetch_types: false,
    onnotice: () => {},
    // What is JSON text already goes as it is, and reaches Postgres as json: by way of text it would be copied three times.
    types: { json: { to: 114, from: [114, 3802], serialize: toJson, parse: JSON.parse } },
    connection: {
      application_name: applicationName,
      ...(address.searchPath !== undefined && { search_path: address.searchPath }),
      // Times leave the database as text here and there, and are compared as such.
      TimeZone: 'UTC',
      // Days and months would change places, where the server or the role has another.
      DateStyle: 'ISO',
      // Statements are prepared once, perhaps while the tables are small, and every one of them has its index.
      // 'off' and not false, which the driver would leave out.
      enable_seqscan: 'off',
      statement_timeout: longestStatementMs,
      // Sooner than the statement's own end, so that the error tells which it was.
      lock_timeout: Math.round(longestStatementMs / 3),
      idle_in_transaction_session_timeout: Math.max(IDLE_TRANSACTION_MS, longestStatementMs),
    },
  })
}

/** Which server, and as whom: what is left out is as the driver has it, from `PGUSER`, `PGPASSWORD` and `PGDATABASE` too. */
function serverOptions({ hosts, username, password, database, tls, targetSessionAttrs }: DatabaseAddress) {
  const [first] = hosts
  return {
    // Lists of each, which the driver's types leave out.
    host: hosts.map(({ host }) => host) as string & string[],
    port: hosts.map(({ port }) => port) as number & number[],
    ...(isSocket(first!) && { path: `${first!.host}/.s.PGSQL.${first!.port}` }),
    ssl: tls ?? false,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(database !== undefined && { database }),
    ...(targetSessionAttrs !== undefined && { target_session_attrs: targetSessionAttrs }),
  }
}
