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

const WEEK_MS = 7 * 86_400_000
/** The Monday before 1970 at which weeks begin to count, as in the partitions' names. */
const FIRST_MONDAY_MS = -3 * 86_400_000

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
  for (const [from, to] of weeks(range)) {
    let after = firstIdAt(from)
    for (;;) {
      const page = await readPage(sql, { ...range, since: from, until: to }, after, columns)
      if (page.length === 0) break
      yield page
      after = page.at(-1)!.id as string
    }
  }
}

/** The range, cut where partitions begin. */
function* weeks({ since, until }: EventRange): Generator<[Date, Date]> {
  for (let from = since.getTime(); from < until.getTime();) {
    const nextWeek = from - ((((from - FIRST_MONDAY_MS) % WEEK_MS) + WEEK_MS) % WEEK_MS) + WEEK_MS
    const to = Math.min(nextWeek, until.getTime())
    yield [new Date(from), new Date(to)]
    from = to
  }
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
  if (kind === 'json') return sql`${column}::text as ${column}`
  // Postgres breaks base64 into lines.
  if (kind === 'bytes') return sql`translate(encode(${column}, 'base64'), E'\n', '') as ${column}`
  return sql`${column}`
}
