import postgres from 'postgres'

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

/** Opens no connection until the first query. `max` is the size of the pool. */
export function connect(url: string, { max, applicationName }: { max: number; applicationName: string }): Sql {
  return postgres(url, {
    max,
    connect_timeout: 5,
    // Seconds. By default it backs off to 20, while callbacks wait.
    backoff: (failures) => Math.min(failures * 0.1, 1),
    // Nothing here uses array or composite types, and each new connection would ask for them first.
    fetch_types: false,
    onnotice: () => {},
    // What is JSON text already goes as it is, and reaches Postgres as json: by way of text it would be copied three times.
    types: { json: { to: 114, from: [114, 3802], serialize: toJson, parse: JSON.parse } },
    connection: {
      application_name: applicationName,
      // Times leave the database as text here and there, and are compared as such.
      TimeZone: 'UTC',
      // Statements are prepared once, perhaps while the tables are small, and every one of them has its index.
      // 'off' and not false, which the driver would leave out.
      enable_seqscan: 'off',
    },
  })
}
