import { setTimeout as sleep } from 'node:timers/promises'
import { StoreJob } from '@ringback/core/callback'
import type { DeliveriesJob, QueuedCallback, QueuedDrop, QueuedRefusal } from '@ringback/core/callback'
import type { Handler } from '@ringback/core/config'
import { createMatch } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'
import { PostponedError } from '@ringback/core/queue'
import type { QueueJob } from '@ringback/core/queue'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import type { Tracing } from '@ringback/core/tracing'
import { storeCanaries } from './canary.ts'
import { cleanJson } from './clean-json.ts'
import type { StoredGroup } from './metrics.ts'
import { mayBeTheData, sqlState, TOO_LONG, verdictOn } from './postgres-errors.ts'
import { defer } from './run-deliveries.ts'
import { createSuspects } from './suspects.ts'
import type { Suspects } from './suspects.ts'
import { logWhenFailed } from './when-failed.ts'

/** What storing a group came to; undefined if it had been stored before. */
interface Stored {
  stored: number
  duplicates: number
  deliveries: { id: string; handler: string; receivedAt: string }[]
}

export interface StoreDependencies {
  sql: Sql
  handlers: readonly Handler[]
  /** Puts a job on the deliveries queue. */
  enqueueDeliveries: (job: DeliveriesJob) => Promise<void>
  /** Told of each group that was stored, not again when it comes a second time. */
  onStored?: (group: StoredGroup) => void
  /** Told when Postgres has answered, if only that it cannot store at this moment. */
  onAnswer?: () => void
  /** How long a group that cannot be stored goes back to the queue; 10 s by default, and 30 s where it cannot be read. */
  postponedMs?: number | undefined
  /** Told of each group that goes back to the queue for a while, with the reason. */
  onPostponed?: (reason: 'unreadable' | 'not_stored') => void
  tracing?: Tracing | undefined
  log: Logger
  /** Fires when the process is to end: a group that waits for Postgres goes back to the queue. */
  signal: AbortSignal
}

interface Dependencies extends StoreDependencies {
  suspects: Suspects
}

/** A processor of store jobs: each group in one transaction, whatever it takes, then its deliveries to their queue. */
export function createStoreEvents(dependencies: StoreDependencies): (job: QueueJob) => Promise<void> {
  const deps: Dependencies = { ...dependencies, suspects: createSuspects() }
  const matchHandlers = createMatch(deps.handlers, logWhenFailed(deps.log))

  return async (job) => {
    const groupId = job.id.replace(/^group-/, '')
    const group = readGroup(deps, groupId, job.data)
    if (group.counted !== undefined) return untilStored(deps, groupId, () => storeCounts(deps, groupId, group.counted!))
    if (group.canary === undefined) return storeAndEnqueue(groupId, group)
    await (isOnlyCanary(group)
      ? untilStored(deps, groupId, () => storeGroup(deps, groupId, group, []))
      : storeAndEnqueue(groupId, group))
    // Last of all, so that it tells of everything before it.
    await untilStored(deps, groupId, () =>
      unlessRefused(deps, groupId, () => storeCanaries(deps.sql, group.canary!, deps.log)),
    )
  }

  async function storeAndEnqueue(groupId: string, group: StoreJob): Promise<void> {
    const startedAt = performance.now()
    const store = () => untilStored(deps, groupId, () => storeGroup(deps, groupId, group, match(group)))
    const stored = await (deps.tracing === undefined ? store() : traced(deps.tracing, groupId, group, store))
    if (stored === undefined) {
      deps.log.info({ groupId }, 'group.repeated')
      return
    }
    const { deliveries, ...counts } = stored
    const durationMs = performance.now() - startedAt
    deps.onStored?.({ ...counts, quarantined: reasonsOf(group), durationMs, ageMs: ageMs(group) })
    deps.log.info(
      { groupId, ...counts, deliveries: deliveries.length, durationMs: Math.round(durationMs) },
      'group.stored',
    )
    await enqueueAll(deps, deliveries)
  }

  /** [callback id, handler] for each handler that is to act on a callback, should it be new. */
  function match(group: StoreJob): [string, string][] {
    if (deps.handlers.length === 0) return []
    return (JSON.parse(group.callbacks) as QueuedCallback[]).flatMap(matchHandlers)
  }
}

/** Stores a group as a span, linked to the requests that it came with. Only here are all its callbacks parsed for that. */
async function traced(
  tracing: Tracing,
  groupId: string,
  { callbacks }: StoreJob,
  store: () => Promise<Stored | undefined>,
): Promise<Stored | undefined> {
  const span = tracing.store((JSON.parse(callbacks) as QueuedCallback[]).map(({ traceparent }) => traceparent))
  const name = { 'ringback.group': groupId }
  try {
    const stored = await store()
    const { stored: count, duplicates, deliveries } = stored ?? {}
    span.end({
      ...name,
      'ringback.outcome': stored === undefined ? 'repeated' : 'stored',
      'ringback.stored': count,
      'ringback.duplicates': duplicates,
      'ringback.deliveries': deliveries?.length,
    })
    return stored
  } catch (error) {
    span.end({ ...name, 'ringback.outcome': 'not_stored' }, { failed: true })
    throw error
  }
}

function reasonsOf({ quarantined }: StoreJob): string[] {
  if (quarantined === '[]') return []
  return (JSON.parse(quarantined) as QueuedRefusal[]).map(({ reason }) => reason)
}

/** Since the first callback of a group came in: its id is a UUIDv7, and the first thing in the JSON. */
function ageMs({ callbacks }: StoreJob): number | undefined {
  const id = /^\[\{"id":"([0-9a-f]{8})-([0-9a-f]{4})-7/.exec(callbacks.slice(0, 50))
  return id === null ? undefined : Math.max(0, Date.now() - Number.parseInt(id[1]! + id[2]!, 16))
}

/** One job for each handler. What cannot be enqueued is left to the scanner; if that fails too, it finds it half a minute later. */
async function enqueueAll(
  { sql, enqueueDeliveries, log }: StoreDependencies,
  deliveries: Stored['deliveries'],
): Promise<void> {
  for (const [handler, own] of Map.groupBy(deliveries, (delivery) => delivery.handler)) {
    const queued = own.map(({ id, receivedAt }) => ({ id, receivedAt, attempt: '1' }))
    try {
      await enqueueDeliveries({ version: '1', handler, deliveries: queued })
    } catch (error) {
      log.warn({ handler, count: own.length, error: (error as Error).message }, 'deliveries.deferred')
      await defer(sql, queued, 0).catch(() => undefined)
    }
  }
}

/** While Postgres is away. */
const LONGEST_PAUSE_MS = 2000
/** Of a group that Postgres does not store although it is there, before others have their turn. */
const TRIES_IN_HAND = 3
const POSTPONED_MS = 10_000
/** For a job that this version can't read: it waits until a newer worker takes it. */
const UNREADABLE_MS = 30_000

/** A job that this version can't read goes back to the queue, for it was acknowledged. Throws {@link PostponedError}. */
function readGroup(
  { log, onPostponed, postponedMs = UNREADABLE_MS }: Dependencies,
  groupId: string,
  data: unknown,
): StoreJob {
  const { data: group, error } = StoreJob.safeParse(data)
  if (group !== undefined) return group
  const version = (data as { version?: unknown } | null | undefined)?.version
  const fields = error.issues.map(({ path }) => path.join('.'))
  log.error({ groupId, version: String(version).slice(0, 20), fields, retryInMs: postponedMs }, 'group.unreadable')
  onPostponed?.('unreadable')
  throw new PostponedError('this version of the worker cannot read it', postponedMs)
}

/**
 * Tries until it succeeds, for what is in the queue was acknowledged, and there is nobody left to tell of a failure.
 * While Postgres is away it waits with the group in hand. A group that fails while Postgres answers goes back to the
 * queue for a while (by throwing {@link PostponedError}), so that it takes nobody's place.
 */
async function untilStored<Result>(
  { log, signal, onAnswer, onPostponed, postponedMs = POSTPONED_MS, suspects }: Dependencies,
  groupId: string,
  store: () => Promise<Result>,
): Promise<Result> {
  let tries = 0
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      const result = await store()
      suspects.onStored(groupId)
      return result
    } catch (error) {
      if (sqlState(error) !== undefined) onAnswer?.()
      const { message } = error as Error
      if (verdictOn(error) !== 'away' && ((tries += 1) >= TRIES_IN_HAND || sqlState(error) === TOO_LONG)) {
        const times = suspects.onStuck(groupId)
        log.error(
          { groupId, error: message, sqlState: sqlState(error), times, retryInMs: postponedMs },
          'group.postponed',
        )
        onPostponed?.('not_stored')
        throw new PostponedError('it cannot be stored at this moment', postponedMs)
      }
      log.error({ groupId, error: message, sqlState: sqlState(error), retryInMs: pauseMs }, 'group.not_stored')
      await sleep(pauseMs, undefined, { signal })
    }
  }
}

async function storeGroup(
  deps: Dependencies,
  groupId: string,
  group: StoreJob,
  matched: [string, string][],
  madePartitions = false,
): Promise<Stored | undefined> {
  const { sql } = deps
  try {
    const [row] = await sql<{ result: Stored | null }[]>`
      select store_group(
        ${groupId}, ${group.callbacks}, ${group.quarantined}, ${group.dropped}, ${JSON.stringify(matched)}, ${hasNames(group)}
      ) as result`
    return row?.result ?? undefined
  } catch (error) {
    if (isMissingPartition(error)) {
      // Once: while a partition of long ago is being dropped, there is none to be had, and it is tried again later.
      if (madePartitions) throw error
      await makePartitions(sql, group)
      return storeGroup(deps, groupId, group, matched, true)
    }
    // A group that keeps failing while others are stored is taken apart too, to find which callback is to blame.
    const isGuilty = deps.suspects.isGuilty(groupId)
    const isRefusal = (reason: unknown) => verdictOn(reason) === 'refused' || (isGuilty && mayBeTheData(reason))
    if (!isRefusal(error)) throw error
    return storePieces(deps, groupId, { group, matched, isRefusal })
  }
}

/** What ingest has counted, once. */
function storeCounts(deps: StoreDependencies, groupId: string, counted: string): Promise<void> {
  return unlessRefused(deps, groupId, async () => {
    await deps.sql`
      with claimed as (insert into store_groups (id) values (${groupId}) on conflict do nothing returning id)
      select store_counts(${counted}) from claimed`
  })
}

/** What Postgres refuses of ingest's own reports is given up: it is worth no queue that stands still. */
async function unlessRefused({ log }: StoreDependencies, groupId: string, store: () => Promise<void>): Promise<void> {
  try {
    await store()
  } catch (error) {
    if (verdictOn(error) !== 'refused') throw error
    log.error({ groupId, error: (error as Error).message }, 'report.not_storable')
  }
}

/** Such a group goes the way of any other, but it is none that people count. */
function isOnlyCanary({ callbacks, quarantined, dropped }: StoreJob): boolean {
  return callbacks === '[]' && quarantined === '[]' && dropped === '[]'
}

/** Whether names or nonces are to be looked at before storing: a text search, for the JSON is not parsed here. */
function hasNames({ callbacks }: StoreJob): boolean {
  return callbacks.includes('"nonces":') || callbacks.includes('"previousName":')
}

/** Postgres says it with the code of a check constraint, and names none. */
function isMissingPartition(error: unknown): boolean {
  const { code, constraint_name: constraint } = error as { code?: unknown; constraint_name?: unknown }
  return code === '23514' && constraint === undefined
}

/** For a group that waited through the weeks whose partitions were made ahead, or came by a clock that is wrong. */
async function makePartitions(sql: Sql, group: StoreJob): Promise<void> {
  const ids = [group.callbacks, group.quarantined].flatMap((items) =>
    (JSON.parse(items) as { id: string }[]).map(({ id }) => id),
  )
  await sql`
    select ensure_partitions(week, week)
    from (
      select distinct date_trunc('week', uuid_extract_timestamp(id::uuid), 'UTC') as week
      from json_array_elements_text(${JSON.stringify(ids)}::json) as id
    ) as weeks`
}

/**
 * A group of which Postgres refuses something: with cleaned payloads, and halved until what is still refused stands
 * alone and goes to quarantine. One transaction, so that the group is stored once and as a whole.
 */
function storePieces(
  { sql, log }: StoreDependencies,
  groupId: string,
  {
    group,
    matched,
    isRefusal,
  }: { group: StoreJob; matched: [string, string][]; isRefusal: (error: unknown) => boolean },
): Promise<Stored | undefined> {
  return sql.begin(async (transaction) => {
    const [claimed] =
      await transaction`insert into store_groups (id) values (${groupId}) on conflict do nothing returning id`
    if (claimed === undefined) return undefined

    const total: Stored = { stored: 0, duplicates: 0, deliveries: [] }
    const add = (part: Stored) => {
      total.stored += part.stored
      total.duplicates += part.duplicates
      total.deliveries.push(...part.deliveries)
    }

    async function storeCallbacks(callbacks: QueuedCallback[]): Promise<void> {
      if (callbacks.length === 0) return
      try {
        add(await transaction.savepoint((savepoint) => call(savepoint, { callbacks, matched })))
      } catch (error) {
        if (!isRefusal(error)) throw error
        if (callbacks.length === 1) {
          log.error({ eventId: callbacks[0]!.id, error: (error as Error).message }, 'callback.not_storable')
          await storeRefusals([notStorable(callbacks[0]!, error as Error)])
          return
        }
        const middle = Math.ceil(callbacks.length / 2)
        await storeCallbacks(callbacks.slice(0, middle))
        await storeCallbacks(callbacks.slice(middle))
      }
    }

    async function storeRefusals(quarantined: QueuedRefusal[]): Promise<void> {
      if (quarantined.length === 0) return
      try {
        await transaction.savepoint((savepoint) => call(savepoint, { quarantined }))
      } catch (error) {
        if (!isRefusal(error)) throw error
        if (quarantined.length > 1) {
          for (const refusal of quarantined) await storeRefusals([refusal])
          return
        }
        // Not even its envelope can be stored: the bytes and the reason are what counts.
        const { id, source, reason, scope, body } = quarantined[0]!
        await call(transaction, {
          quarantined: [
            { id, source, reason, scope, body, method: '', url: '', headers: {}, error: (error as Error).message },
          ],
        })
      }
    }

    await storeCallbacks((JSON.parse(group.callbacks) as QueuedCallback[]).map(withCleanPayload))
    await storeRefusals(JSON.parse(group.quarantined) as QueuedRefusal[])
    await call(transaction, { dropped: JSON.parse(group.dropped) as QueuedDrop[] })
    return total
  })
}

async function call(
  sql: TransactionSql,
  {
    callbacks = [],
    quarantined = [],
    dropped = [],
    matched = [],
  }: {
    callbacks?: QueuedCallback[]
    quarantined?: QueuedRefusal[]
    dropped?: QueuedDrop[]
    matched?: [string, string][]
  },
): Promise<Stored> {
  const [row] = await sql<{ result: Stored }[]>`
    select store_callbacks(
      ${JSON.stringify(callbacks)}, ${JSON.stringify(quarantined)}, ${JSON.stringify(dropped)}, ${JSON.stringify(matched)}, true
    ) as result`
  return row!.result
}

/** Bytes that are no UTF-8 become U+FFFD here; the column `raw` keeps them. */
function withCleanPayload(callback: QueuedCallback): QueuedCallback {
  return { ...callback, payload: cleanJson(callback.payload ?? Buffer.from(callback.raw, 'base64').toString('utf8')) }
}

function notStorable(callback: QueuedCallback, error: Error): QueuedRefusal {
  const { id, source, method, url, headers, raw, callbackId } = callback
  const scope = 'callback'
  return {
    id,
    source,
    reason: 'not_storable',
    scope,
    method,
    url,
    headers,
    body: raw,
    callbackId,
    error: error.message,
  }
}
