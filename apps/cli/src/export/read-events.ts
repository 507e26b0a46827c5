import type { Sql } from '@ringback/core/store/connect'
import type { PendingQuery, Row } from 'postgres'
import { firstIdAt } from '../keyset.ts'
import { likePattern } from '../options.ts'
import type { Column, ExportedRow } from './columns.ts'

/** Which events to read; every given condition must hold. */
export interface EventRange {
  since: Date
  until: Date
  source?: string
  /** `*` stands for any characters. */
  type?: string
  account?: string
  callId?: string
}

const PAGE_ROWS = 1000
/** Limit of the callbacks' bytes in one page; one callback alone may be larger. Payload and raw are about that size each. */
const PAGE_BYTES = 4 * 2 ** 20

/**
 * Yields the events of a range in pages, in the order of receipt. It goes week by week, so that each query touches one
 * partition. Each page is a statement of its own: one transaction over all would hold up retention when it drops partitions,
 * and then whoever stores events. An id begins with the time of receipt, so its order is that of (received_at, id), and the
 * primary key gives the next page.
 */
export async function* readEvents(
  sql: Sql,
  range: EventRange,
  columns: readonly Column[],
): AsyncGenerator<ExportedRow[]> {
  for (const week of await weeks(sql, range)) {
    let after = firstIdAt(week.since)
    for (;;) {
      const page = await readPage(sql, { ...range, ...week }, after, columns)
      if (page.length === 0) break
      yield page
      after = page.at(-1)!.id as string
    }
  }
}

/** The range, cut where partitions begin, without the weeks that have none. */
async function weeks(sql: Sql, { since, until }: EventRange): Promise<{ since: Date; until: Date }[]> {
  return await sql<{ since: Date; until: Date }[]>`
    select greatest(monday, ${since}) as since, least(monday + interval '7 days', ${until}) as until
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    cross join lateral (
      select to_date(substring(relname from '\\d{4}w\\d{2}$'), 'IYYY"w"IW')::timestamp at time zone 'UTC' as monday
    ) as week
    where inhparent = 'events'::regclass and monday < ${until} and monday + interval '7 days' > ${since}
    order by monday`
}

async function readPage(
  sql: Sql,
  { since, until, source, type, account, callId }: EventRange,
  after: string,
  columns: readonly Column[],
): Promise<ExportedRow[]> {
  const none = sql``
  // Postgres knows the sizes without reading what it keeps out of line, so a page of large callbacks is cut before that.
  return await sql<ExportedRow[]>`
    select ${columns.map((column, index) => sql`${index === 0 ? none : sql`,`} ${asText(sql, column)}`)}
    from (
      select *, sum(octet_length(raw)) over (order by id) - octet_length(raw) as bytes_before
      from (
        select * from events
        where id > ${after} and received_at >= ${since} and received_at < ${until}
          ${source === undefined ? none : sql`and source = ${source}`}
          ${type === undefined ? none : sql`and type like ${likePattern(type)}`}
          ${account === undefined ? none : sql`and account_id = ${account}`}
          ${callId === undefined ? none : sql`and call_id = ${callId}`}
        order by id
        limit ${PAGE_ROWS}
      ) as page
    ) as sized
    where bytes_before < ${PAGE_BYTES}
    order by id`
}

function asText(sql: Sql, { name, kind }: Column): PendingQuery<Row[]> {
  const column = sql(name)
  if (kind === 'time') return sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column}`
  if (kind === 'json') return sql`payload_text(${column}) as ${column}`
  // Postgres breaks base64 into lines.
  if (kind === 'bytes') return sql`translate(encode(${column}, 'base64'), E'\n', '') as ${column}`
  return sql`${column}`
}
