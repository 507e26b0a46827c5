import { duplicates, events } from '@ringback/core/store/schema'
import { parsePayload } from '@ringback/core/parse-payload'
import { Option } from 'commander'
import type { Command } from 'commander'
import { and, asc, desc, eq, getTableColumns, gte, inArray, like, lt, sql } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { withDatabase } from '../environment.ts'
import { followEvents } from '../follow-events.ts'
import { KEPT, STORED } from '../kept.ts'
import type { Tables } from '../kept.ts'
import { before } from '../keyset.ts'
import { oneLine, print, printList, showNextPage, wantsJson } from '../output.ts'
import { idFrom, likePattern, timeOrAge, wholeNumber } from '../options.ts'

const eventId = idFrom('events')

const FOLLOW_EXPLANATION = `
--follow shows each event that is stored from now on, once, however long ago it was received. With --since, it first shows
the stored events that were received since then. It excludes --limit, --before and --until.`

/** `ringback events` and `ringback events show` */
export function addEventsCommand(program: Command): void {
  const command = program
    .command('events')
    .description('list events, newest first')
    .option('--source <name>')
    .option('--type <type>', '"*" stands for any characters')
    .option('--account <id>')
    .option('--callback-id <id>')
    .option('--call-id <id>')
    .option('--since <time>', 'a time, or an age such as 90s, 15m, 2h, 7d', timeOrAge)
    .option('--until <time>', 'received before a time or an age', timeOrAge)
    .option('--before <id>', 'the page after the event with this id', eventId)
    .option('--limit <n>', 'how many', wholeNumber(1, 10_000), 50)
    .addOption(
      new Option('--follow', 'continue with new events as they are stored').conflicts(['limit', 'before', 'until']),
    )
    .addHelpText('after', FOLLOW_EXPLANATION)
    .action(async (options: ListOptions & { follow?: boolean }, self: Command) => {
      await withDatabase((database) =>
        options.follow ? follow(database, options, self) : list(database, options, self),
      )
    })

  command
    .command('show')
    .description('one event with its payload, duplicates, deliveries and attempts')
    .argument('<id>', 'the id of an event', eventId)
    .action(async (id: string, _options: unknown, self: Command) => {
      print(self, await withDatabase((database) => show(database, id)))
    })
}

interface ListOptions {
  source?: string
  type?: string
  account?: string
  callbackId?: string
  callId?: string
  since?: Date
  until?: Date
  before?: string
  limit: number
}

const summary = {
  id: events.id,
  receivedAt: events.receivedAt,
  source: events.source,
  accountId: events.accountId,
  type: events.type,
  callbackId: events.callbackId,
  verifiedBy: events.verifiedBy,
  duplicates: events.duplicates,
}

function matching(options: ListOptions) {
  return and(
    options.source === undefined ? undefined : eq(events.source, options.source),
    options.type === undefined ? undefined : like(events.type, likePattern(options.type)),
    options.account === undefined ? undefined : eq(events.accountId, options.account),
    options.callbackId === undefined ? undefined : eq(events.callbackId, options.callbackId),
    options.callId === undefined ? undefined : eq(events.callId, options.callId),
    options.since === undefined ? undefined : gte(events.receivedAt, options.since),
    options.until === undefined ? undefined : lt(events.receivedAt, options.until),
    options.before === undefined ? undefined : before(events, options.before),
  )
}

async function list(database: PostgresJsDatabase, options: ListOptions, command: Command): Promise<void> {
  const found = await database
    .select(summary)
    .from(events)
    .where(matching(options))
    // The id is a UUIDv7, so its order is that of receipt, and that of the primary key.
    .orderBy(desc(events.id))
    .limit(options.limit)
  printList(command, found, { cells, none: 'No events' })
  showNextPage(command, found, options.limit)
}

async function follow(database: PostgresJsDatabase, options: ListOptions, command: Command): Promise<void> {
  const pages = await followEvents(database, { wanted: matching(options), since: options.since })
  console.error('Following new events; Ctrl-C ends it')
  for await (const ids of pages) {
    const found = await database.select(summary).from(events).where(inArray(events.id, ids)).orderBy(asc(events.id))
    for (const event of found) {
      console.log(wantsJson(command) ? JSON.stringify(event) : oneLine(Object.values(cells(event)).join('  ')))
    }
  }
}

function cells({ receivedAt, ...event }: Pick<typeof events.$inferSelect, keyof typeof summary>) {
  return { received: receivedAt.toISOString(), ...event }
}

async function show(database: PostgresJsDatabase, id: string) {
  const stored = await find(database, STORED, id)
  if (stored === undefined) {
    const kept = await find(database, KEPT, id)
    if (kept === undefined) throw new Error(`There is no event ${id}; it may be older than what is kept`)
    return kept
  }
  const repetitions = await database
    .select({ receivedAt: duplicates.receivedAt, changed: duplicates.changed, raw: duplicates.raw })
    .from(duplicates)
    .where(eq(duplicates.eventId, id))
    .orderBy(asc(duplicates.receivedAt))
  const { deliveries, ...event } = stored
  return {
    ...event,
    repetitions: repetitions.map(({ raw, ...repetition }) => ({ ...repetition, raw: raw?.toString('utf8') })),
    deliveries,
  }
}

/** An event with its deliveries, and these with their attempts. */
async function find(database: PostgresJsDatabase, { events: table, deliveries, attempts }: Tables, id: string) {
  // The payload is text, because the driver would round long ids; null where it is too long as text.
  const columns = { ...getTableColumns(table), payload: sql<string | null>`payload_text(${table.payload})` }
  const [event] = await database.select(columns).from(table).where(eq(table.id, id))
  if (event === undefined) return undefined
  const ofEvent = await database
    .select()
    .from(deliveries)
    .where(eq(deliveries.eventId, id))
    .orderBy(asc(deliveries.handler))
  const ids = ofEvent.map((delivery) => delivery.id)
  const runs = await database
    .select()
    .from(attempts)
    .where(inArray(attempts.deliveryId, ids))
    .orderBy(asc(attempts.number))
  return {
    ...event,
    payload: event.payload === null ? null : parsePayload(event.payload),
    raw: event.raw.toString('utf8'),
    deliveries: ofEvent.map((delivery) => ({
      ...delivery,
      runs: runs.filter(({ deliveryId }) => deliveryId === delivery.id),
    })),
  }
}
