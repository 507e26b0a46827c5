import type { Sql } from '@ringback/core/store/connect'
import type { PendingQuery, Row } from 'postgres'
import { firstIdAt } from '../keyset.ts'
import { likePattern } from '../options.ts'
import type { Column, ExportedRow } from './columns.ts'

/** Which events; all that is given must hold. */
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
/** Of callbacks' bytes in one page, save for one callback that is larger: payload and raw are about as large each. */
const PAGE_BYTES = 4 * 2 ** 20

/**
 * Pages of the events of a range, in the order of receipt. Week by week, so that each query touches one partition, and
 * each page a statement of its own: a transaction over all of them would keep retention from dropping partitions, and with
 * it whoever stores events. An id begins with the time of receipt, so its order is that of (received_at, id), and the
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

/** The range cut where partitions begin. */
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
  // The sizes are known without reading what is kept out of line, so a page of large callbacks is cut before it is read.
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
