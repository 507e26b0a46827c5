import { quarantine } from '@ringback/core/store/schema'
import type { Sql } from '@ringback/core/store/connect'
import { Option } from 'commander'
import type { Command } from 'commander'
import { and, asc, desc, eq, gt, gte, isNull, lt, sql } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { drizzle } from 'drizzle-orm/postgres-js'
import { maskTokens } from '../doctor/mask-url.ts'
import { readConfig, withDatabase, withSql } from '../environment.ts'
import { before } from '../keyset.ts'
import { idFrom, timeOrAge, wholeNumber } from '../options.ts'
import { oneLine, print, printList, showNextPage, showProgress, wantsJson } from '../output.ts'
import { requestsOf } from '../quarantined-request.ts'
import type { Quarantined } from '../quarantined-request.ts'
import { release } from '../release.ts'
import type { Released } from '../release.ts'

const refusalId = idFrom('quarantine list')

/** `ringback quarantine list`, `show` and `release` */
export function addQuarantineCommand(program: Command): void {
  const command = program.command('quarantine').description('requests and callbacks that were refused')

  withFilters(command.command('list'))
    .description('what is in quarantine, newest first')
    .option('--released', 'also what was released')
    .option('--before <id>', 'the page after the refusal with this id', refusalId)
    .option('--limit <n>', 'how many', wholeNumber(1, 10_000), 50)
    .action(async (filter: Filter & Page, self: Command) => {
      const found = await withDatabase((database) => newest(database, filter))
      printList(self, found, { cells: (row) => cells(row, filter), none: 'Nothing is in quarantine' })
      showNextPage(self, found, filter.limit)
    })

  command
    .command('show')
    .description('one refusal: the request, the exact text that was signed, and the digest that was expected')
    .argument('<id>', 'the id of a refusal', refusalId)
    .action(async (id: string, _options: unknown, self: Command) => {
      const row = await withDatabase((database) => one(database, id))
      print(self, { ...row, body: row.body.toString('utf8'), proofs: await proofsOf(row) })
    })

  withFilters(command.command('release'))
    .description("verify again with today's configuration, as of the time of receipt, and accept what now passes")
    .argument('[ids...]', 'the ids; without any, the options select')
    .option('--trust', 'also accept what still fails, on your word; this is recorded')
    .option('--yes', 'do it; without it, what the options select is only shown with its outcome')
    .addOption(new Option('--dry-run', 'only show the outcome of each').conflicts('yes'))
    .addHelpText('after', '\nThe exit code is 1 if an item named by id is still refused.')
    .action(releaseAll)
}

interface Filter {
  source?: string
  reason?: string
  since?: Date
  until?: Date
  released?: boolean
}

function withFilters(command: Command): Command {
  return command
    .option('--source <name>')
    .option('--reason <reason>', 'such as signature_mismatch')
    .option('--since <time>', 'received since a time, or an age such as 15m, 2h, 7d', timeOrAge)
    .option('--until <time>', 'received before a time or an age', timeOrAge)
}

function matching({ source, reason, since, until, released = false }: Filter) {
  return and(
    source === undefined ? undefined : eq(quarantine.source, source),
    reason === undefined ? undefined : eq(quarantine.reason, reason),
    since === undefined ? undefined : gte(quarantine.receivedAt, since),
    until === undefined ? undefined : lt(quarantine.receivedAt, until),
    released ? undefined : isNull(quarantine.releasedAt),
  )
}

interface Page {
  before?: string
  limit: number
}

/** What the list has of a row, with the names that `show` has. Bodies are left where they are: there may be gigabytes of them. */
const listed = {
  id: quarantine.id,
  receivedAt: quarantine.receivedAt,
  source: quarantine.source,
  reason: quarantine.reason,
  scope: quarantine.scope,
  callbackId: quarantine.callbackId,
  remoteAddress: quarantine.remoteAddress,
  bytes: sql<number>`octet_length(${quarantine.body})`,
  releasedAt: quarantine.releasedAt,
}

function newest(database: PostgresJsDatabase, options: Filter & Page) {
  const { before: cursor, limit, ...filter } = options
  return (
    database
      .select(listed)
      .from(quarantine)
      .where(and(matching(filter), cursor === undefined ? undefined : before(quarantine, cursor)))
      // The id is a UUIDv7, so its order is that of receipt, and that of the primary key.
      .orderBy(desc(quarantine.id))
      .limit(limit)
  )
}

function cells(row: Awaited<ReturnType<typeof newest>>[number], { released = false }: Filter) {
  const { id, receivedAt, source, reason, scope, callbackId, remoteAddress, bytes, releasedAt } = row
  return {
    id,
    received: receivedAt.toISOString(),
    source,
    reason,
    of: scope ?? '',
    callbackId: callbackId ?? '',
    from: remoteAddress ?? '',
    bytes,
    ...(released && { released: releasedAt?.toISOString() ?? '' }),
  }
}

async function one(database: PostgresJsDatabase, id: string): Promise<Quarantined> {
  const [row] = await database.select().from(quarantine).where(eq(quarantine.id, id))
  if (row === undefined)
    throw new Error(`Nothing with the id ${id} is in quarantine; it may be older than what is kept`)
  return row
}

/**
 * The proofs of a row, or null if the source is off. `url`, if it is signed, is what Ringback takes the called URL to be. A
 * signed text that is not UTF-8 is given in base64.
 */
async function proofsOf(row: Quarantined) {
  const config = await readConfig()
  const source = config.sources.get(row.source)
  if (source === undefined) {
    console.error(
      `What was signed is not known: there is no source "${row.source}" that is on; see "ringback config check"`,
    )
    return null
  }
  return requestsOf(row, source, config).flatMap((request) =>
    source.explain(request).map(({ signedText, ...proof }) => {
      const text = signedText.toString('utf8')
      const isText = Buffer.from(text).equals(signedText)
      const url = source.needsUrl && { url: maskTokens(request.url, source.urlTokens) }
      return {
        ...proof,
        ...url,
        ...(isText ? { signedText: text } : { signedTextBase64: signedText.toString('base64') }),
      }
    }),
  )
}

type ReleaseOptions = Filter & { trust?: boolean; yes?: boolean; dryRun?: boolean }

async function releaseAll(ids: string[], options: ReleaseOptions, self: Command): Promise<void> {
  const { trust = false, yes = false, dryRun: wantsDryRun = false, ...filter } = options
  assertNamed(ids, filter, trust)
  const dryRun = wantsDryRun || (ids.length === 0 && !yes)
  const config = await readConfig()
  const outcomes: Record<string, number> = {}
  await withSql(async (sql) => {
    await assertExist(sql, ids)
    let done = 0
    for await (const row of rowsToRelease(sql, ids, filter)) {
      const outcome = await release(sql, row, config, { trust, dryRun })
      const name = nameOf(outcome)
      outcomes[name] = (outcomes[name] ?? 0) + 1
      if (wantsJson(self)) console.log(JSON.stringify({ id: row.id, ...outcome, ...(dryRun && { dryRun }) }))
      else if (outcome.kind === 'refused') console.log(oneLine(`${row.id}  still refused: ${outcome.reason}`))
      if (outcome.kind === 'refused' && ids.length > 0) process.exitCode = 1
      done += 1
      if (done % 100 === 0) showProgress(`${done} looked at`)
    }
  })
  showProgress('')
  const total = Object.entries(outcomes).map(([name, count]) => `${count} ${name}`)
  if (wantsJson(self)) return
  if (total.length === 0) console.log('Nothing to release')
  else console.log(`${dryRun ? 'Would be: ' : ''}${total.join(', ')}`)
  if (dryRun && ids.length === 0) console.log('Nothing was changed; --yes does it')
}

/** Throws unless ids or filters are given. `trust` lets everything in, so its filter must at least name the source. */
function assertNamed(ids: string[], filter: Filter, trust: boolean): void {
  const isFiltered = Object.keys(filter).length > 0
  if (ids.length > 0 && isFiltered) throw new Error('Name ids or filters, not both')
  if (ids.length === 0 && !isFiltered) {
    throw new Error('Name ids, or say which by --source, --reason, --since or --until')
  }
  if (trust && isFiltered && filter.source === undefined) throw new Error('--trust goes with ids, or with --source')
  ids.forEach(refusalId)
}

async function assertExist(sql: Sql, ids: readonly string[]): Promise<void> {
  const missing = await sql<{ id: string }[]>`
    select wanted.id
    from json_array_elements_text(${JSON.stringify(ids)}::json) as wanted (id)
    where not exists (select from quarantine as q where q.id = wanted.id::uuid)`
  if (missing.length === 0) return
  throw new Error(
    `Nothing with the id ${missing.map(({ id }) => id).join(', ')} is in quarantine; it may be older than what is kept. ` +
      'Nothing was changed',
  )
}

function nameOf(outcome: Released): string {
  if (outcome.kind === 'refused') return 'still refused'
  return outcome.kind === 'released' ? (outcome.as === 'trusted' ? 'released on trust' : 'released') : 'released before'
}

const PAGE = 100

/** Yields rows page by page, the oldest first, so that the run after one that was cut short goes on where it ended. */
async function* rowsToRelease(sql: Sql, ids: string[], filter: Filter): AsyncGenerator<Quarantined> {
  const database = drizzle(sql)
  if (ids.length > 0) {
    for (const id of ids) yield await one(database, id)
    return
  }
  let after = ''
  for (;;) {
    const rows = await database
      .select()
      .from(quarantine)
      .where(and(matching(filter), after === '' ? undefined : gt(quarantine.id, after)))
      .orderBy(asc(quarantine.id))
      .limit(PAGE)
    yield* rows
    const last = rows.at(-1)
    if (last === undefined || rows.length < PAGE) return
    after = last.id
  }
}
