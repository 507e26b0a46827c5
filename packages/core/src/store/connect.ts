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

/** A list of texts for SQL's `in`. It is one parameter, so the statement is the same for any number of them. */
export function textList(sql: Sql | TransactionSql, texts: readonly string[]) {
  return sql`(select json_array_elements_text(${JSON.stringify(texts)}::json))`
}

export interface ConnectOptions {
  /** The size of the pool. */
  max: number
  applicationName: string
  /**
   * The longest that a statement may take; half a minute by default. A connection on which no byte of an awaited answer
   * arrives for 5 s longer than that is given up. Without such a limit, a frozen server or a cut network would hold a query
   * until the kernel gives up, after a quarter of an hour.
   */
  longestStatementMs?: number | undefined
  /** Keeps a connection however old it is, for a session that holds something while idle, such as an advisory lock. */
  keepsSession?: boolean
}

const LONGEST_STATEMENT_MS = 30_000
/** `longestStatementMs` for what changes many rows or reads a whole table: migrations and commands of the CLI. */
export const LONG_WORK_MS = 3_600_000
const SILENCE_MARGIN_MS = 5000
/** How long a transaction may idle: one whose process is gone, or waits for something else, must not keep its locks. */
const IDLE_TRANSACTION_MS = 60_000

/**
 * Makes a pool, which opens no connection until the first query. No query waits for ever: one without an answer in time
 * rejects, and the next query gets another connection. A rejected query may have been carried out all the same. `end()`
 * takes as long as the queries in hand, and a second more if the server is frozen. Throws if the URL cannot be read.
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
    // In seconds. By default it grows to 20 s, while callbacks wait.
    backoff: (failures) => Math.min(failures * 0.1, 1),
    // Nothing here uses array or composite types, and each new connection would ask for them first.
    fetch_types: false,
    onnotice: () => {},
    // JSON text is sent as it is, with the type json. If it were sent as text and cast, it would be copied three times.
    types: { json: { to: 114, from: [114, 3802], serialize: toJson, parse: JSON.parse } },
    connection: {
      application_name: applicationName,
      ...(address.searchPath !== undefined && { search_path: address.searchPath }),
      // Some queries return times as text, and these texts are compared.
      TimeZone: 'UTC',
      // If the server or the role sets another style, days and months may change places.
      DateStyle: 'ISO',
      // The driver reads no other format of bytes, and takes them for garbage.
      bytea_output: 'hex',
      // As the migrations and their functions write texts: with their backslashes as they are.
      standard_conforming_strings: 'on',
      // A statement has to see what others committed while it waited for a lock; by a snapshot, copies would be stored twice.
      default_transaction_isolation: 'read committed',
      // A pool's connections idle. The longest that there is: 0, for none, the driver would leave out.
      idle_session_timeout: 2_147_483_647,
      // Statements are prepared once, perhaps while the tables are still small, and there is an index for each of them.
      // 'off' and not false, which the driver would leave out.
      enable_seqscan: 'off',
      statement_timeout: longestStatementMs,
      // Shorter than statement_timeout, so that the error tells whether a lock was the reason.
      lock_timeout: Math.round(longestStatementMs / 3),
      idle_in_transaction_session_timeout: Math.max(IDLE_TRANSACTION_MS, longestStatementMs),
      // Transactions of many statements take longer than any of these. '0' and not 0, which the driver would leave out.
      transaction_timeout: '0',
    },
  })
}

/** The server and the role. The driver takes what is left out from `PGUSER`, `PGPASSWORD` and `PGDATABASE`. */
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
