import { setTimeout as sleep } from 'node:timers/promises'
import { events } from '@ringback/core/store/schema'
import { and, asc, gt, gte, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { firstIdAt } from './keyset.ts'

// Finds events as they are stored. No index has the time of storing. The time of receipt is enough for most events, whose
// ids are among the newest. Events that waited in a spool, or for Postgres, are older: they are found by their groups.

const INTERVAL_MS = 500
/** How far back each look goes again, by the time of receipt: events are not stored in the order of their ids. */
const RECENT_MS = 10_000
/** How long it may take from the receipt of a callback until its group has its id. */
const GROUPED_MS = 2000
/** Longer than any transaction that stores a group takes: `stored_at` is the time of its beginning. */
const COMMITTED_MS = 60_000
const PAGE = 1000

export interface Followed {
  /** The condition for events to follow; undefined follows all. */
  wanted: SQL | undefined
  /** If given, stored events that were received since then come first. */
  since: Date | undefined
}

/** Yields the ids of events that are stored from now on, each once, in pages. It never ends. */
export async function followEvents(
  database: PostgresJsDatabase,
  { wanted, since }: Followed,
): Promise<AsyncGenerator<string[]>> {
  const seen = new Set<string>()
  let lookedAt = await now(database)
  let from = since ?? minus(lookedAt, RECENT_MS)
  let groups = new Set(await groupsSince(database, minus(lookedAt, COMMITTED_MS)))
  if (since === undefined) for await (const page of idsFrom(database, from, wanted)) page.forEach((id) => seen.add(id))

  async function* follow(): AsyncGenerator<string[]> {
    for (;;) {
      const startedAt = await now(database)
      const found = await groupsSince(database, minus(lookedAt, COMMITTED_MS))
      const isLate = (id: string) => id < firstIdAt(minus(from, -GROUPED_MS))
      const late = found.filter((id) => !groups.has(id) && isLate(id))
      const recent = minus(startedAt, RECENT_MS)
      for await (const page of idsFrom(database, from, wanted)) {
        const fresh = page.filter((id) => !seen.has(id))
        if (fresh.length > 0) yield fresh
        for (const id of fresh) if (id > firstIdAt(minus(recent, RECENT_MS))) seen.add(id)
      }
      if (late.length > 0) {
        const ids = await idsOfGroups(database, late, { before: from, wanted })
        yield* inPages(ids.filter((id) => !seen.has(id)))
      }
      groups = new Set(found)
      lookedAt = startedAt
      if (recent > from) from = recent
      // Ids are kept for longer: a group that was stored between the two queries is new to the next round.
      for (const id of seen) if (id < firstIdAt(minus(from, RECENT_MS))) seen.delete(id)
      await sleep(INTERVAL_MS)
    }
  }
  return follow()
}

function* inPages(ids: string[]): Generator<string[]> {
  for (let start = 0; start < ids.length; start += PAGE) yield ids.slice(start, start + PAGE)
}

function minus(time: Date, ms: number): Date {
  return new Date(time.getTime() - ms)
}

/** The time by the clock of Postgres, which `stored_at` has too. */
async function now(database: PostgresJsDatabase): Promise<Date> {
  const [row] = await database.execute<{ ms: string }>(sql`select floor(extract(epoch from now()) * 1000)::text as ms`)
  return new Date(Number(row!.ms))
}

async function groupsSince(database: PostgresJsDatabase, storedAt: Date): Promise<string[]> {
  const rows = await database.execute<{ id: string }>(
    sql`select id from store_groups where stored_at > ${storedAt.toISOString()}::timestamptz`,
  )
  return rows.map(({ id }) => id)
}

/** Pages of the ids from a time of receipt on. */
async function* idsFrom(database: PostgresJsDatabase, from: Date, wanted: SQL | undefined): AsyncGenerator<string[]> {
  let after = firstIdAt(from)
  for (;;) {
    const page = await database
      .select({ id: events.id })
      .from(events)
      .where(and(gt(events.id, after), gte(events.receivedAt, from), wanted))
      .orderBy(asc(events.id))
      .limit(PAGE)
    yield page.map(({ id }) => id)
    if (page.length < PAGE) return
    after = page.at(-1)!.id
  }
}

/** Events that were stored with these groups, and received before a time. */
async function idsOfGroups(
  database: PostgresJsDatabase,
  groups: readonly string[],
  { before, wanted }: { before: Date; wanted: SQL | undefined },
): Promise<string[]> {
  // Groups that were made one after another make one range, so that each of their ids is read once.
  const rows = await database.execute<{ id: string }>(sql`
    with late as materialized (
      select stored_at, uuid_extract_timestamp(id) as made_at
      from store_groups
      where id in (select json_array_elements_text(${JSON.stringify(groups)}::json)::uuid)
    ),
    received as materialized (
      select unnest(range_agg(tstzrange(made_at - ${GROUPED_MS} * interval '1 ms', made_at, '[]'))) as during
      from late
    )
    select events.id
    from received
    join events
      on events.id > ${firstId(sql`lower(during)`)}
      and events.id < ${firstId(sql`upper(during) + interval '1 ms'`)}
      and events.received_at <@ during
    where events.received_at < ${before.toISOString()}::timestamptz
      and events.stored_at in (select stored_at from late)
      and ${wanted ?? sql`true`}
    order by events.id`)
  return rows.map(({ id }) => id)
}

/** {@link firstIdAt} in SQL. */
function firstId(at: SQL): SQL {
  return sql`(lpad(to_hex((extract(epoch from ${at}) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid`
}
