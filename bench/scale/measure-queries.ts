import { readFile } from 'node:fs/promises'
import postgres from 'postgres'
import { median } from '../statistics.ts'

export interface QueryTime {
  what: string
  /** The median of the runs after the first, in milliseconds; undefined if the query took longer than the limit. */
  ms: number | undefined
  /** The time of the first run, which may read from the disk. */
  firstMs: number | undefined
  rows: number
  /** Scans by kind and index, with the number of partitions that each really read. */
  scans: string[]
}

export const LIMIT_SECONDS = 60
export const RUNS = 3

/**
 * Measures the queries of the commands and of the worker, planned as on their connections, and then each query in
 * docs/sql.md, planned as for people.
 */
export async function measureQueries(databaseUrl: string): Promise<QueryTime[]> {
  const sql = postgres(databaseUrl, {
    max: 1,
    onnotice: () => {},
    connection: { statement_timeout: LIMIT_SECONDS * 1000, TimeZone: 'UTC' },
  })
  try {
    const times: QueryTime[] = []
    const ofCommands = await commandQueries(sql)
    // connect.ts sets this too.
    await sql`set enable_seqscan = off`
    for (const query of ofCommands) times.push(await measure(sql, query))
    await sql`set enable_seqscan = on`
    for (const query of await documentedQueries()) times.push(await measure(sql, query))
    return times
  } finally {
    await sql.end({ timeout: 1 })
  }
}

interface Query {
  what: string
  text: string
}

/** The queries of `ringback events`, `events show`, `export` and `deliveries list`, and of the worker's scanner. */
async function commandQueries(sql: postgres.Sql): Promise<Query[]> {
  const [event] = await sql<{ id: string; received_at: Date; call_id: string; callback_id: string }[]>`
    select id, received_at, call_id, callback_id from events where received_at < now() - interval '30 days' and call_id is not null
    order by id desc limit 1`
  const listed = 'id, received_at, source, account_id, type, callback_id, verified_by, duplicates'
  return [
    { what: 'newest 50 events', text: `select ${listed} from events order by id desc limit 50` },
    {
      what: 'newest 50 events of a source',
      text: `select ${listed} from events where source = 'vobiz' order by id desc limit 50`,
    },
    {
      what: 'newest 50 of a type, of the last day',
      text: `select ${listed} from events where type like 'min\\_balance' and received_at > now() - interval '1 day'
        order by id desc limit 50`,
    },
    { what: 'an event by its id', text: `select * from events where id = '${event!.id}'` },
    {
      what: 'an event by its id and time',
      text: `select * from events where id = '${event!.id}' and received_at = uuid_extract_timestamp('${event!.id}')`,
    },
    {
      what: 'an event by its callback_id',
      text: `select ${listed} from events where callback_id = '${event!.callback_id}' order by id desc limit 50`,
    },
    {
      what: 'the events of a call',
      text: `select ${listed} from events where call_id = '${event!.call_id}' order by id desc limit 50`,
    },
    {
      what: 'the next page of an export',
      text: `select * from events
        where id > '${event!.id}' and received_at >= '${event!.received_at.toISOString()}'
          and received_at < '${event!.received_at.toISOString()}'::timestamptz + interval '1 day'
        order by id limit 1000`,
    },
    {
      what: 'newest 50 dead letters',
      text: `select d.id, d.event_id, e.source, e.type, d.handler, d.status, d.attempts, d.last_error from deliveries as d
        join events as e on e.id = d.event_id and e.received_at = d.event_received_at
        where d.status in ('dead') order by d.id desc limit 50`,
    },
    {
      what: 'deliveries that are due',
      text: `select id, handler, attempts, event_received_at from deliveries
        where handler = 'crm' and status = 'pending' and next_attempt_at <= now()
          and (lease_until is null or lease_until < now()) order by next_attempt_at limit 250 for update skip locked`,
    },
  ]
}

/** The reading statements of docs/sql.md, each named by its comment or its heading. */
async function documentedQueries(): Promise<Query[]> {
  const page = await readFile(new URL('../../docs/sql.md', import.meta.url), 'utf8')
  const queries: Query[] = []
  for (const section of page.split(/^(?=#+ )/m)) {
    const heading = /^#+ (.*)/.exec(section)?.[1] ?? 'SQL'
    for (const [, block] of section.matchAll(/^```sql\n(.*?)^```/gms)) {
      for (const statement of block!.split(/;[ \t]*$/m).map((text) => text.trim())) {
        const text = statement.replaceAll(/^\s*--.*$/gm, '').trim()
        if (!/^(select|with)\b/i.test(text)) continue
        queries.push({ what: /^-- (.*)/.exec(statement)?.[1] ?? heading, text })
      }
    }
  }
  return queries
}

interface Plan {
  'Node Type': string
  'Index Name'?: string
  'Relation Name'?: string
  'Actual Loops': number
  Plans?: Plan[]
}

interface Explained {
  Plan: Plan
  'Execution Time': number
}

async function measure(sql: postgres.Sql, query: Query): Promise<QueryTime> {
  const time = await timeOf(sql, query)
  console.error(`query: ${time.what}: ${time.ms?.toFixed(1) ?? 'too slow'} ms`)
  return time
}

async function timeOf(sql: postgres.Sql, { what, text }: Query): Promise<QueryTime> {
  try {
    const [explained] = await sql.unsafe(`explain (analyze, format json) ${text}`)
    const [{ Plan: plan, 'Execution Time': firstMs }] = explained!['QUERY PLAN'] as [Explained]
    const times: number[] = []
    let rows = 0
    for (let run = 0; run < RUNS; run++) {
      const startedAt = performance.now()
      rows = (await sql.unsafe(text)).length
      times.push(performance.now() - startedAt)
    }
    return { what, ms: median(times), firstMs, rows, scans: scansOf(plan) }
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    const why = code === '57014' ? `longer than ${LIMIT_SECONDS} s` : message
    return { what, ms: undefined, firstMs: undefined, rows: 0, scans: [why] }
  }
}

/** The scans that ran, with the partitions of one table taken together. */
function scansOf(plan: Plan): string[] {
  const counts = new Map<string, number>()
  const walk = (node: Plan): void => {
    if (node['Actual Loops'] === 0) return
    const name = node['Index Name'] ?? node['Relation Name']
    if (/Scan/.test(node['Node Type']) && name !== undefined && node['Node Type'] !== 'Bitmap Heap Scan') {
      const key = `${node['Node Type']} ${name.replace(/\d{4}w\d{2}/, '*')}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    node.Plans?.forEach(walk)
  }
  walk(plan)
  return [...counts].map(([key, count]) => (count === 1 ? key : `${count} × ${key}`))
}
