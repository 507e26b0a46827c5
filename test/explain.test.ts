import { expect, test } from 'vitest'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { freshDatabase } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { recipes } from './support/sql-book.ts'

// Plans are asked for as on a plain connection: the product's own switches sequential scans off, and would hide a query that
// has no index.

const ROWS = 30_000

/** Events over six weeks, as even as can be, with deliveries, duplicates and refusals; the planner knows of them. */
async function seed({ sql }: Database): Promise<void> {
  await sql`select ensure_partitions(now() - interval '42 days', now())`
  await sql`
    insert into events (
      id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, payload, raw, method, url, headers
    )
    select
      id, uuid_extract_timestamp(id), (array['voximplant', 'vobiz', 'twilio', 'plivo'])[n % 4 + 1], '1', n::text,
      (array['min_balance', 'StartApp', 'Hangup', 'Ring', 'sms_inbound'])[n % 5 + 1], 'call ' || n / 3, 'body', now(),
      jsonb_build_object('From', n, 'To', n, 'balance', n, 'filler', repeat('x', 300)), '', 'POST', '/', '{}'
    from (
      select n, uuidv7(-n * interval '42 days' / ${ROWS}) as id from generate_series(1, ${ROWS}::integer) as n
    ) as made`
  await sql`
    insert into event_names select source, account_id, callback_id, id, received_at from events`
  await sql`
    insert into deliveries (id, event_id, event_received_at, handler, status, finished_at)
    select uuidv7(-(now() - received_at)), id, received_at, 'crm', case when callback_id::integer % 97 = 0 then 'dead' else 'succeeded' end,
      received_at
    from events`
  await sql`
    insert into attempts (delivery_id, event_received_at, number, started_at, duration_ms, outcome)
    select id, event_received_at, 1, event_received_at, 10, 'succeeded' from deliveries`
  await sql`
    insert into duplicates (id, event_id, event_received_at, received_at, content_hash, changed, raw)
    select uuidv7(), id, received_at, received_at, '', callback_id::integer % 997 = 0, '{}' from events`
  await sql`
    insert into quarantine (id, source, reason, received_at, method, url, headers, body)
    select id, source, 'signature_mismatch', received_at, 'POST', '/', '{}', '' from events`
  for (const table of ['events', 'event_names', 'deliveries', 'attempts', 'duplicates', 'quarantine']) {
    await sql.unsafe(`vacuum analyze ${table}`)
  }
}

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Actual Loops'?: number
  Plans?: Plan[]
}

const BIG = /^(events|deliveries|attempts|duplicates|quarantine)_\d{4}w\d\d$|^event_names$/

/** The scans of big tables that a query really makes, pruned ones left out. */
async function scansOf(sql: Sql, query: string): Promise<{ table: string; isSequential: boolean }[]> {
  const [row] = await sql.unsafe<{ 'QUERY PLAN': [{ Plan: Plan }] }[]>(`explain (analyze, format json) ${query}`)
  const all = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(all)]
  return all(row!['QUERY PLAN'][0].Plan)
    .filter((plan) => BIG.test(plan['Relation Name'] ?? ''))
    .map((plan) => ({ table: plan['Relation Name']!, isSequential: plan['Node Type'] === 'Seq Scan' }))
}

/** Recipes whose range is so short that they read one week, or two where it has just begun. */
const SHORT = [
  'The last events',
  'Calls without a hangup',
  'Unanswered calls per hour',
  'Quarantine reasons today',
  'From happening to stored',
]

test('no query that is documented, and none of the command line, reads a big table from end to end', async () => {
  await using database = await freshDatabase()
  await seed(database)
  const sql = connect(database.url, { max: 1, applicationName: 'a person' })
  await sql.unsafe('set enable_seqscan = on')
  try {
    const cursor = "'01a20100-2034-72e6-8f19-104d6f900fe4'"
    const event =
      'cross join lateral (select * from events where id = d.event_id and received_at = d.event_received_at offset 0) as e'
    const own: Record<string, string> = {
      events: 'select * from events order by id desc limit 50',
      'events --source': "select * from events where source = 'vobiz' order by id desc limit 50",
      'events --before': `select * from events where id < ${cursor} and received_at <= uuid_extract_timestamp(${cursor}::uuid) order by id desc limit 50`,
      'events show': `select * from events where id = ${cursor}`,
      'duplicates of an event': `select * from duplicates where event_id = ${cursor}`,
      'deliveries of an event': `select * from deliveries where event_id = ${cursor}`,
      'attempts of a delivery': `select * from attempts where delivery_id = ${cursor}`,
      'deliveries list': `select * from deliveries as d ${event} order by d.id desc limit 50`,
      'deliveries --before': `select * from deliveries as d ${event} where d.id < ${cursor} order by d.id desc limit 50`,
      'quarantine list': 'select * from quarantine order by id desc limit 50',
      'quarantine --source': "select * from quarantine where source = 'vobiz' order by id desc limit 50",
      'quarantine show': `select * from quarantine where id = ${cursor}`,
      'the scanner':
        "select * from deliveries where handler = 'crm' and status = 'pending' and next_attempt_at <= now() order by next_attempt_at limit 250",
      'pending deliveries, counted':
        "select count(*) from (select from deliveries where handler = 'crm' and status = 'pending' limit 10000) as counted",
      'the delivery that is due first':
        "select min(next_attempt_at) from deliveries where handler = 'crm' and status = 'pending'",
      'dead letters of the last hour':
        "select * from deliveries where status = 'dead' and finished_at > now() - interval '1 hour' order by finished_at desc limit 1000",
      retention: "select from deliveries where status = 'pending' limit 1",
    }
    const documented = (await recipes()).map(({ title, query }) => [title, query] as const)
    // Weeks to come, and those at the ends of what is seeded: what is in a few pages is read faster without an index.
    const small = new Set(
      (await sql<{ name: string }[]>`select relname as name from pg_class where reltuples < 1000`).map(
        ({ name }) => name,
      ),
    )
    const sequential = new Set<string>()
    const tooMany: Record<string, string[]> = {}
    for (const [title, query] of [...documented, ...Object.entries(own)]) {
      const scans = (await scansOf(sql, query)).filter(({ table }) => !small.has(table))
      if (scans.some(({ isSequential }) => isSequential)) sequential.add(title)
      if (SHORT.includes(title)) {
        const weeks = new Set(scans.map(({ table }) => table.slice(-7)))
        if (weeks.size > 2) tooMany[title] = [...weeks]
      }
    }
    expect(tooMany).toEqual({})
    expect([...sequential]).toEqual([])
  } finally {
    await sql.end()
  }
})
