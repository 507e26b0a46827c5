import { queuedCallback, withCleanPayload } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import { createMatch } from '@ringback/core/filter'
import type { WhenFailed } from '@ringback/core/filter'
import type { GenuineCallback, Reading, Source } from '@ringback/core/providers/provider'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { mayBeTheData, verdictOn } from '@ringback/worker/postgres-errors'
import { leaveToScanner, storeCallbacks } from '@ringback/worker/store-callbacks'
import { requestsOf } from './quarantined-request.ts'
import type { Quarantined } from './quarantined-request.ts'

/** What became of one row of quarantine. */
export type Released =
  | { kind: 'released'; as: 'verified' | 'trusted'; stored: number; duplicates: number }
  | { kind: 'refused'; reason: string }
  | { kind: 'released_before' }

/**
 * Verifies a quarantined item again, as of its receipt, and stores it if it passes now. One transaction stores it and marks
 * it as released, so that it is let in only once. With `trust` it is let in even if it does not pass.
 */
export async function release(
  sql: Sql,
  row: Quarantined,
  config: Config,
  { trust, dryRun }: { trust: boolean; dryRun: boolean },
): Promise<Released> {
  const source = config.sources.get(row.source)
  if (source === undefined) return { kind: 'refused', reason: `there is no source "${row.source}" that is on` }
  const found = verifyAgain(row, source, config, trust)
  if (found.kind === 'refused') return found
  if (dryRun && row.releasedAt !== null) return { kind: 'released_before' }
  if (dryRun) return { kind: 'released', as: found.as, stored: found.callbacks.length, duplicates: 0 }
  try {
    return await sql.begin((transaction) => store(transaction, row, config, found))
  } catch (error) {
    if (error instanceof StillRefused) return { kind: 'refused', reason: error.message }
    // As with a worker, what Postgres does not take holds up no other.
    if (verdictOn(error) !== 'refused' && !mayBeTheData(error)) throw error
    return { kind: 'refused', reason: `not_storable: ${(error as Error).message}` }
  }
}

interface Found {
  kind: 'found'
  as: 'verified' | 'trusted'
  callbacks: GenuineCallback[]
}

function verifyAgain(
  row: Quarantined,
  source: Source,
  config: Config,
  trust: boolean,
): Found | { kind: 'refused'; reason: string } {
  const requests = requestsOf(row, source, config)
  const readings = requests.map((request) => source.read(request))
  const passing = readings
    .map(genuine)
    .find((callbacks) => callbacks.some(isVerified))
    ?.filter(isVerified)
  // A nonce that was used before is refused when it is stored, unless an operator trusts the item.
  const isOnTrust = trust && row.reason === 'nonce_reused'
  if (passing !== undefined && !isOnTrust) return { kind: 'found', as: 'verified', callbacks: passing }
  const trusted = trust ? genuine(source.read(requests[0]!, { trust })) : []
  if (trusted.length > 0) {
    return { kind: 'found', as: 'trusted', callbacks: trusted.map(({ nonces: _nonces, ...callback }) => callback) }
  }
  return { kind: 'refused', reason: reasonOf(readings[0]!) }
}

function genuine(reading: Reading): GenuineCallback[] {
  return reading.kind === 'refused' ? [] : reading.callbacks.filter((callback) => callback.kind === 'genuine')
}

/** Whether it passed by proof. Shadow mode lets everything in, which is not meant for what was refused before. */
function isVerified({ wouldRefuse }: GenuineCallback): boolean {
  return wouldRefuse === undefined
}

function reasonOf(reading: Reading): string {
  if (reading.kind === 'refused') return reading.reason
  const reasons = reading.callbacks.map((callback) =>
    callback.kind === 'genuine' ? callback.wouldRefuse : callback.reason,
  )
  return reasons.find((reason) => reason !== undefined) ?? 'it holds no callback'
}

/** Thrown to roll a release back. */
class StillRefused extends Error {}

async function store(
  sql: TransactionSql,
  row: Quarantined,
  config: Config,
  { as, callbacks }: Found,
): Promise<Released> {
  const marked = await sql`
    update quarantine set released_at = now(), released_as = ${as}
    where id = ${row.id} and received_at = uuid_extract_timestamp(${row.id}::uuid) and released_at is null
    returning id`
  if (marked.length === 0) return { kind: 'released_before' }
  const { source, method, url, headers } = row
  // A worker cleans only what Postgres has refused, because it stores thousands; here there is one item.
  const queued = callbacks.map((callback) =>
    withCleanPayload(queuedCallback(callback, { source, method, url, headers })),
  )
  const matched = queued.flatMap(createMatch(config.handlers, warnWhenFailed))
  const { stored, duplicates, deliveries } = await storeCallbacks(sql, { callbacks: queued, matched })
  if (stored + duplicates < queued.length) throw new StillRefused('nonce_reused')
  await leaveToScanner(sql, deliveries)
  return { kind: 'released', as, stored, duplicates }
}

function warnWhenFailed({ handler, eventId, error }: Parameters<WhenFailed>[0]): void {
  console.error(`${eventId}: "when" of the handler "${handler}" threw, so it acts on the event: ${error}`)
}
