import { Option } from 'commander'
import type { Command } from 'commander'
import { and, asc, eq } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import type { Sql } from '@ringback/core/store/connect'
import { changeDeliveries, countDeliveries } from '../change-deliveries.ts'
import type { Change, Changed, Counted } from '../change-deliveries.ts'
import { fieldValue, fromDeliveries, STATUSES } from '../delivery-filter.ts'
import type { DeliveryFilter, Status } from '../delivery-filter.ts'
import { withDatabase, withSql } from '../environment.ts'
import { assertNotOnlyKept, KEPT, STORED } from '../kept.ts'
import type { Tables } from '../kept.ts'
import { idFrom, timeOrAge, wholeNumber } from '../options.ts'
import { errorCell, print, printList, showNextPage, showProgress } from '../output.ts'

const deliveryId = idFrom('deliveries list')

/** `ringback deliveries list`, `show`, `retry` and `cancel` */
export function addDeliveriesCommand(program: Command): void {
  const command = program.command('deliveries').description('what handlers have done, and what they still have to do')

  withFilters(command.command('list'))
    .description('deliveries, newest first')
    .option('--before <id>', 'the page after the delivery with this id', deliveryId)
    .option('--limit <n>', 'how many', wholeNumber(1, 10_000), 50)
    .action(
      async ({ before, limit, ...options }: FilterOptions & { before?: string; limit: number }, self: Command) => {
        const found = await withSql((sql) => newest(sql, filterOf(options), { before, limit }))
        printList(self, found, { cells, none: 'No deliveries' })
        showNextPage(self, found, limit)
      },
    )

  command
    .command('show')
    .description('one delivery with its attempts')
    .argument('<id>', 'the id of a delivery', deliveryId)
    .action(async (id: string, _options: unknown, self: Command) => {
      print(self, await withDatabase((database) => show(database, id)))
    })

  withBulkOptions(command.command('retry'), 'retry')
    .description('run deliveries again: dead letters with a fresh retry policy, pending ones now')
    .action((ids: string[], options: BulkOptions, self: Command) => change('retry', ids, options, self))

  withBulkOptions(command.command('cancel'), 'cancel')
    .description('end pending deliveries; they are not run again')
    .action((ids: string[], options: BulkOptions, self: Command) => change('cancel', ids, options, self))
}

interface FilterOptions extends Omit<DeliveryFilter, 'ids' | 'status'> {
  status?: Status
}

type BulkOptions = FilterOptions & { yes?: boolean; rate?: number; after?: string }

function withFilters(command: Command): Command {
  return command
    .option('--source <name>')
    .option('--type <type>', '"*" stands for any characters')
    .option('--handler <name>')
    .addOption(new Option('--status <status>').choices(STATUSES))
    .option('--since <time>', 'of events received since a time, or an age such as 15m, 2h, 7d', timeOrAge)
    .option('--until <time>', 'of events received before a time or an age', timeOrAge)
    .option('--field <path=value>', 'of events whose payload has this value at this path; may be repeated', fieldValue)
    .option('--error <text>', 'whose last error contains this text')
}

/** The states that each change applies to if no --status is given, and those that it can apply to at all. */
const TAKES: Record<Change, { usually: readonly Status[]; atMost: readonly Status[] }> = {
  retry: { usually: ['dead', 'pending'], atMost: STATUSES },
  cancel: { usually: ['pending'], atMost: ['pending', 'dead'] },
}

function withBulkOptions(command: Command, name: Change): Command {
  return withFilters(command.argument('[ids...]', 'the ids; without any, the options select'))
    .option('--yes', 'do it; without it, what the options select is only counted')
    .option('--rate <n>', `the most to ${name} in a second`, wholeNumber(1, 100_000))
    .option('--after <id>', 'continue after this id, which a stopped run prints', deliveryId)
}

function filterOf({ status, ...rest }: FilterOptions): DeliveryFilter {
  return { ...rest, ...(status !== undefined && { status: [status] }) }
}

interface Listed {
  id: string
  createdAt: Date
  eventId: string
  source: string
  type: string
  handler: string
  status: Status
  attempts: number
  nextAttemptAt: Date | null
  finishedAt: Date | null
  lastError: string | null
}

function newest(
  sql: Sql,
  filter: DeliveryFilter,
  { before, limit }: { before: string | undefined; limit: number },
): Promise<Listed[]> {
  return sql<Listed[]>`
    select
      d.id, d.created_at as "createdAt", d.event_id as "eventId", e.source, e.type, d.handler, d.status, d.attempts,
      d.next_attempt_at as "nextAttemptAt", d.finished_at as "finishedAt", d.last_error as "lastError"
    ${fromDeliveries(sql, filter)} ${before === undefined ? sql`` : sql`and d.id < ${before}`}
    order by d.id desc
    limit ${limit}`
}

function cells({ id, createdAt, source, type, handler, status, attempts: made, nextAttemptAt, lastError }: Listed) {
  return {
    id,
    created: createdAt.toISOString(),
    source,
    type,
    handler,
    status,
    attempts: made,
    next: nextAttemptAt?.toISOString() ?? '',
    error: errorCell(lastError),
  }
}

async function show(database: PostgresJsDatabase, id: string) {
  const found = (await find(database, STORED, id)) ?? (await find(database, KEPT, id))
  if (found === undefined) throw new Error(`There is no delivery ${id}; it may be older than what is kept`)
  return found
}

/** A delivery with its event and its attempts. */
async function find(database: PostgresJsDatabase, { events, deliveries, attempts }: Tables, id: string) {
  const { id: eventId, receivedAt, source, accountId, type, callbackId, callId } = events
  const [found] = await database
    .select({ delivery: deliveries, event: { id: eventId, receivedAt, source, accountId, type, callbackId, callId } })
    .from(deliveries)
    .innerJoin(events, and(eq(eventId, deliveries.eventId), eq(receivedAt, deliveries.eventReceivedAt)))
    .where(eq(deliveries.id, id))
  if (found === undefined) return undefined
  const runs = await database.select().from(attempts).where(eq(attempts.deliveryId, id)).orderBy(asc(attempts.number))
  return {
    ...found.delivery,
    event: found.event,
    runs: runs.map(({ deliveryId: _delivery, eventReceivedAt: _event, ...run }) => run),
  }
}

async function change(name: Change, ids: string[], options: BulkOptions, self: Command): Promise<void> {
  const { yes = false, rate, after, ...filters } = options
  const statuses = statusesOf(name, filters.status)
  assertNamed(ids, filters)
  const hasIds = ids.length > 0
  // What is named by its id and is in another state is counted.
  const filter = hasIds ? { ids } : { ...filters, status: statuses }
  await withSql(async (sql) => {
    if (hasIds) await assertExist(sql, ids)
    const counted = hasIds ? undefined : await countDeliveries(sql, filter, after)
    if (counted !== undefined && !yes) return print(self, { dryRun: true, ...counted }, wouldBe(name, counted))
    const stopping = stopOnSignal()
    const total = counted?.total ?? ids.length
    const progress = (lookedAt: number) => showProgress(`${lookedAt} of ${total}`)
    const { signal } = stopping
    const changing = changeDeliveries(sql, name, filter, { statuses, after, rate, signal, progress })
    const result = await changing.finally(() => {
      stopping.end()
      showProgress('')
    })
    print(self, result, became(name, result))
    if (result.stoppedAfter !== undefined) process.exitCode = 1
  })
}

function statusesOf(name: Change, status: Status | undefined): readonly Status[] {
  const { usually, atMost } = TAKES[name]
  if (status === undefined) return usually
  if (!atMost.includes(status)) throw new Error(`What is ${status} cannot be canceled: it has its end already`)
  return [status]
}

/** Throws unless ids or filters are given. */
function assertNamed(ids: string[], { status, ...others }: FilterOptions): void {
  const isFiltered = Object.keys(others).length > 0
  if (ids.length > 0 && isFiltered) throw new Error('Name ids or filters, not both; only --status goes with ids')
  if (ids.length === 0 && !isFiltered && status === undefined) {
    throw new Error(
      'Name ids, or say which by --source, --type, --handler, --status, --since, --until, --field or --error',
    )
  }
  ids.forEach(deliveryId)
}

async function assertExist(sql: Sql, ids: readonly string[]): Promise<void> {
  const missing = await sql<{ id: string }[]>`
    select wanted.id
    from json_array_elements_text(${JSON.stringify(ids)}::json) as wanted (id)
    where not exists (select from deliveries as d where d.id = wanted.id::uuid)`
  for (const { id } of missing) await assertNotOnlyKept(sql, id)
  if (missing.length > 0) {
    throw new Error(`There is no delivery ${missing.map(({ id }) => id).join(', ')}; nothing was changed`)
  }
}

/** Makes Ctrl-C end a run between two pages, so that it can say where. */
function stopOnSignal(): { signal: AbortSignal; end: () => void } {
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  const names = ['SIGINT', 'SIGTERM'] as const
  for (const name of names) process.once(name, stop)
  return { signal: stopping.signal, end: () => names.forEach((name) => process.off(name, stop)) }
}

const DONE: Record<Change, Partial<Record<Status, string>>> = {
  retry: { pending: 'made due now', dead: 'run again', canceled: 'run again', succeeded: 'run again' },
  cancel: { pending: 'canceled', dead: 'canceled' },
}

function wouldBe(name: Change, { total, byStatus, inHand }: Counted): string {
  if (total === 0) return 'No such delivery'
  const each = Object.entries(byStatus).map(([status, count]) => `${count} ${status}`)
  return `Would ${name} ${total}: ${each.join(', ')}${inHand > 0 ? `, ${inHand} of them in a worker's hand, which are left alone` : ''}\nNothing was changed; --yes does it`
}

function became(name: Change, { changed, inHand, otherStatus, stoppedAfter }: Changed): string {
  const done = Object.entries(changed).map(([was, count]) => `${count} ${DONE[name][was as Status]} (${was} before)`)
  const left = [
    ...(inHand > 0 ? [`${inHand} in hand of a worker or of another run`] : []),
    ...Object.entries(otherStatus).map(([status, count]) => `${count} ${status}`),
  ]
  return [
    done.join(', ') || 'Nothing was changed',
    ...(left.length > 0 ? [`Left alone: ${left.join(', ')}`] : []),
    ...(stoppedAfter !== undefined ? [`Stopped; --after ${stoppedAfter} goes on from there`] : []),
  ].join('\n')
}
