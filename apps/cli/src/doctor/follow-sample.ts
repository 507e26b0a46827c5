import { setTimeout as sleep } from 'node:timers/promises'
import { queryOf } from '@ringback/core/providers/message'
import type { RejectReason } from '@ringback/core/providers/provider'
import { events, quarantine } from '@ringback/core/store/schema'
import { and, desc, eq, gt, or, sql } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import type { Quarantined } from '../quarantined-request.ts'
import { adviceFor, diagnose } from './diagnose.ts'
import type { Examination } from './examination.ts'
import type { SentSample } from './send-sample.ts'

// Finds out from the database what became of the sample.

export interface FollowOptions extends Examination {
  /** The earliest possible time of receipt, by the receiver's clock. */
  since: Date
  waitMs: number
}

/** Waits until the sample is in the database, at most `waitMs`, and reports what became of it. */
export async function followSample(
  database: PostgresJsDatabase,
  sample: SentSample,
  options: FollowOptions,
): Promise<void> {
  if (sample.answer === undefined) return
  const deadline = Date.now() + options.waitMs
  do {
    const event = await findEvent(database, sample, options)
    if (event !== undefined) return reportEvent(event, sample, options)
    const refusal = await findRefusal(database, sample, options)
    if (refusal !== undefined) return reportRefusal(refusal, sample, options)
    await sleep(200)
  } while (Date.now() < deadline)
  await reportNothing(database, sample.answer, options)
}

type Event = typeof events.$inferSelect

async function findEvent(
  database: PostgresJsDatabase,
  { request, callback }: SentSample,
  { name, since }: FollowOptions,
): Promise<Event | undefined> {
  const userAgent = eq(sql`${events.headers} ->> 'user-agent'`, request.headers['user-agent'])
  const isSample = callback === undefined ? userAgent : or(userAgent, eq(events.callbackId, callback.callbackId))
  const where = and(eq(events.source, name), gt(events.receivedAt, since), isSample)
  const [event] = await database.select().from(events).where(where).limit(1)
  return event
}

async function findRefusal(
  database: PostgresJsDatabase,
  { request }: SentSample,
  { name, since }: FollowOptions,
): Promise<Quarantined | undefined> {
  const isSample = eq(sql`${quarantine.headers} ->> 'user-agent'`, request.headers['user-agent'])
  const where = and(eq(quarantine.source, name), gt(quarantine.receivedAt, since), isSample)
  const [row] = await database.select().from(quarantine).where(where).orderBy(desc(quarantine.receivedAt)).limit(1)
  return row
}

function reportEvent(event: Event, { callback }: SentSample, { report }: FollowOptions): void {
  const { id, storedAt, receivedAt, verifiedBy, secret, wouldRefuse, raw } = event
  const ms = Math.max(0, storedAt.getTime() - receivedAt.getTime())
  const bySecret = secret === null ? '' : `, with secret ${secret}`
  report('ok', `It was stored ${ms} ms after it came, as event ${id}, verified by "${verifiedBy}"${bySecret}`)
  if (wouldRefuse !== null) {
    report('problem', `Only shadow mode let it in. ${adviceFor(wouldRefuse as RejectReason)}`)
  } else if (callback !== undefined && !callback.raw.equals(raw)) {
    report(
      'note',
      verifiedBy === 'body'
        ? 'Its body was written anew on the way, with the same content: the proof covers that, and holds'
        : 'Its content was changed on the way, which nobody notices here: the proof does not cover it',
    )
  }
}

function reportRefusal(row: Quarantined, { request, isSigned }: SentSample, examination: Examination): void {
  const { report } = examination
  const changes = changesOnTheWay(row, request)
  for (const change of changes) report('problem', change)
  if (changes.length > 0) return
  if (!isSigned && row.reason === 'signature_mismatch') {
    report('ok', 'It arrived unchanged, and was refused for its signature only, as it should be')
    return
  }
  if (row.reason === 'address_not_allowed') {
    report(
      'note',
      `It came from ${row.remoteAddress ?? 'an address that is not known'}, which is not among the addresses of this source: as it should be if that is this machine. If it is a proxy of yours, list that in trustedProxies`,
    )
    return
  }
  const diagnosis = diagnose(row, examination)
  if (diagnosis.kind === 'passes') {
    report(
      'problem',
      `It was refused (${row.reason}), and passes with the configuration that this command reads: Ringback runs with another one. Restart it, or give this command its variables`,
    )
    return
  }
  report('problem', `It was refused (${row.reason}). ${diagnosis.remedy ?? diagnosis.advice}`)
}

/** What arrived differently from how it was sent. */
function changesOnTheWay(row: Quarantined, request: SentSample['request']): string[] {
  const sent = Object.entries(request.headers)
  const missing = sent.filter(([name]) => row.headers[name] === undefined).map(([name]) => name)
  const changed = sent
    .filter(([name, value]) => !isKeptOtherwise(row.headers[name]) && row.headers[name] !== value)
    .map(([name]) => name)
  return [
    ...(missing.length > 0 ? [`These headers did not arrive: ${missing.join(', ')}. Does a proxy drop them?`] : []),
    ...(changed.length > 0 ? [`These headers arrived changed: ${changed.join(', ')}. Does a proxy set them?`] : []),
    ...(queryOf(row.url) === queryOf(request.url)
      ? []
      : ['The query of the URL arrived changed: does a proxy rewrite it?']),
    ...(row.scope === 'request' && request.method !== 'GET' && !row.body.equals(request.body)
      ? [
          'The body that arrived is not the one that was sent: something before Ringback parses it and writes it anew, which breaks signatures. Let it pass the bytes on as they are',
        ]
      : []),
  ]
}

/** Whether the database cannot have the header's value as it was sent: it is missing, or a credential. */
function isKeptOtherwise(value: string | undefined): boolean {
  return value === undefined || value === '[redacted]' || value.startsWith('digest:')
}

async function reportNothing(
  database: PostgresJsDatabase,
  { status, isRingbacks }: NonNullable<SentSample['answer']>,
  { waitMs, report }: FollowOptions,
): Promise<void> {
  if (status === 400 || status === 401) {
    report(
      'problem',
      isRingbacks
        ? 'It is not in the quarantine of this database: DATABASE_URL here is not that of the worker, or no worker runs'
        : 'It never came to Ringback: something before it answered',
    )
  }
  if (status !== 200 || !isRingbacks) return
  const why = (await hasWorker(database))
    ? 'though a worker is connected to this database: it is far behind, or takes from another queue than the one that ingest fills (REDIS_URL)'
    : 'and no worker is connected to this database: start one, or set DATABASE_URL here to the database of yours'
  report('problem', `It was acknowledged and is not stored within ${waitMs / 1000} s, ${why}`)
}

async function hasWorker(database: PostgresJsDatabase): Promise<boolean> {
  const found = await database.execute(sql`
    select from pg_stat_activity where datname = current_database() and application_name = 'ringback worker' limit 1`)
  return found.length > 0
}
