import { setTimeout as sleep } from 'node:timers/promises'
import { readStoreJob } from '@ringback/core/callback'
import type { DeliveriesJob, Group, QueuedCallback, QueuedRefusal } from '@ringback/core/callback'
import type { Handler } from '@ringback/core/config'
import { createMatch } from '@ringback/core/filter'
import type { Match } from '@ringback/core/filter'
import { PostponedError } from '@ringback/core/queue'
import type { QueueJob } from '@ringback/core/queue'
import type { Sql } from '@ringback/core/store/connect'
import type { Tracing } from '@ringback/core/tracing'
import { storeCanaries } from './canary.ts'
import type { StoredGroups } from './metrics.ts'
import { sqlState, verdictOn } from './postgres-errors.ts'
import { firstAttempts, leaveToScanner } from './store-callbacks.ts'
import type { Stored } from './store-callbacks.ts'
import { storeGroup, storeGroups } from './store-group.ts'
import { createSuspects } from './suspects.ts'
import { untilStored } from './until-stored.ts'
import type { Tries } from './until-stored.ts'
import { logWhenFailed } from './when-failed.ts'

export interface StoreDependencies extends Omit<Tries, 'suspects'> {
  sql: Sql
  handlers: readonly Handler[]
  /** Puts a job on the deliveries queue. */
  enqueueDeliveries: (job: DeliveriesJob) => Promise<void>
  /** Called for groups that were stored, but not when they come again. */
  onStored?: (groups: StoredGroups) => void
  tracing?: Tracing | undefined
}

/** A group with its id. */
interface NamedGroup {
  id: string
  group: Group
}

/**
 * Makes the processor of store jobs, which settles one promise for each job. It tries once to store the groups of a round in
 * one transaction. If that fails, each group is stored in a transaction of its own, whatever it takes. Either way groups are
 * stored in their order, because of two callbacks with one name the first is the event. Then their deliveries are enqueued.
 */
export function createStoreEvents(dependencies: StoreDependencies): (jobs: readonly QueueJob[]) => Promise<void>[] {
  const deps = { ...dependencies, suspects: createSuspects() }
  const matchHandlers = createMatch(deps.handlers, logWhenFailed(deps.log))

  return (jobs) => {
    const readings = jobs.map((job) => readJob(deps, job))
    const named = readings.filter((reading) => 'group' in reading)
    const inSequence = createSequence()
    const endings = new Map<NamedGroup, Promise<void>>()
    for (const batch of batches(named)) {
      const together = batch.length > 1 ? inSequence(() => storeTogether(batch)) : Promise.resolve(false)
      for (const each of batch) {
        endings.set(
          each,
          inSequence(async () => {
            if (!(await together)) await storeAlone(each)
          }),
        )
      }
    }
    return readings.map((reading) =>
      reading instanceof PostponedError ? Promise.reject(reading) : endings.get(reading)!,
    )
  }

  /** Tries once to store all in one transaction. Resolves to whether that succeeded. */
  async function storeTogether(batch: readonly NamedGroup[]): Promise<boolean> {
    const ids = batch.map(({ id }) => id)
    const group = joined(batch.map((each) => each.group))
    const isStored = await storeAndEnqueue(ids, group, () => storeGroups(deps.sql, ids, group, match(group))).catch(
      (error: Error) => {
        deps.log.info({ groups: ids.length, error: error.message, sqlState: sqlState(error) }, 'groups.parted')
        return false
      },
    )
    if (isStored) for (const id of ids) deps.suspects.onStored(id)
    return isStored
  }

  async function storeAlone({ id, group }: NamedGroup): Promise<void> {
    if (group.counted !== undefined) return storeReport(id, () => storeCounts(deps.sql, id, group.counted!))
    const matched = match(group)
    const store = () => untilStored(deps, id, () => storeGroup(deps, id, group, matched))
    if (isOnlyCanary(group)) await store()
    else if (!(await storeAndEnqueue([id], group, store))) deps.log.info({ groupId: id }, 'group.repeated')
    if (group.canary === undefined) return
    // The canary comes last, so that it stands for everything before it.
    await storeReport(id, () => storeCanaries(deps.sql, group.canary!, deps.log))
  }

  /** Stores a report of ingest's own. What Postgres refuses is given up: it is not worth a queue that stands still. */
  function storeReport(groupId: string, store: () => Promise<void>): Promise<void> {
    return untilStored(deps, groupId, () =>
      store().catch((error: Error) => {
        if (verdictOn(error) !== 'refused') throw error
        deps.log.error({ groupId, error: error.message }, 'report.not_storable')
      }),
    )
  }

  /** Resolves to whether they were stored now, and not before. */
  async function storeAndEnqueue(
    ids: readonly string[],
    group: Group,
    store: () => Promise<Stored | undefined>,
  ): Promise<boolean> {
    const startedAt = performance.now()
    const stored = await (deps.tracing === undefined ? store() : traced(deps.tracing, ids, group, store))
    if (stored === undefined) return false
    const { deliveries, ...counts } = stored
    const durationMs = performance.now() - startedAt
    deps.onStored?.({ ...counts, quarantined: reasonsOf(group), durationMs, ageMs: ageMs(group) })
    deps.log.info(
      { groups: ids.length, ...counts, deliveries: deliveries.length, durationMs: Math.round(durationMs) },
      'groups.stored',
    )
    await enqueueAll(deps, deliveries)
    return true
  }

  function match(group: Group): Match[] {
    if (deps.handlers.length === 0) return []
    return (JSON.parse(group.callbacks) as QueuedCallback[]).flatMap(matchHandlers)
  }
}

/** How long a step of a sequence may take. After that it is stuck, and the next one no longer waits for it. */
const MAX_STEP_MS = 5000

/** Makes the function that runs steps one after another: each begins when the one before has settled or is stuck. */
function createSequence(): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let before: Promise<unknown> = Promise.resolve()
  return (work) => {
    const own = before.then(work)
    const longest = before.then(() => sleep(MAX_STEP_MS, undefined, { ref: false }))
    before = Promise.race([own.catch(() => undefined), longest])
    return own
  }
}

/** How much JSON may go into one statement, in characters. */
const MAX_BATCH_LENGTH = 1024 * 1024

/** Neighbouring groups that may go into one statement, and after all of them ingest's own reports, each by itself. */
function batches(named: readonly NamedGroup[]): NamedGroup[][] {
  const found: NamedGroup[][] = []
  let length = 0
  for (const each of named.filter(({ group }) => isOrdinary(group))) {
    const own = each.group.callbacks.length + each.group.quarantined.length
    length += own
    if (found.length > 0 && length <= MAX_BATCH_LENGTH) found.at(-1)!.push(each)
    else {
      found.push([each])
      length = own
    }
  }
  return [...found, ...named.filter(({ group }) => !isOrdinary(group)).map((each) => [each])]
}

function joined(groups: readonly Group[]): Group {
  const array = (kind: 'callbacks' | 'quarantined' | 'dropped') => {
    const lists = groups.map((group) => group[kind].slice(1, -1))
    return `[${lists.filter((items) => items !== '').join(',')}]`
  }
  return { callbacks: array('callbacks'), quarantined: array('quarantined'), dropped: array('dropped') }
}

/** Whether a group holds only what came in, and none of ingest's own reports. */
function isOrdinary({ counted, canary }: Group): boolean {
  return counted === undefined && canary === undefined
}

/** Stores groups within a span that is linked to their requests. All callbacks are parsed for that, only for traces. */
async function traced(
  tracing: Tracing,
  ids: readonly string[],
  { callbacks }: Group,
  store: () => Promise<Stored | undefined>,
): Promise<Stored | undefined> {
  const span = tracing.store((JSON.parse(callbacks) as QueuedCallback[]).map(({ traceparent }) => traceparent))
  const name = { 'ringback.group': ids.join(' ') }
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

function reasonsOf({ quarantined }: Group): string[] {
  if (quarantined === '[]') return []
  return (JSON.parse(quarantined) as QueuedRefusal[]).map(({ reason }) => reason)
}

/** How long ago a group's first callback came in. Its id is a UUIDv7, and the first thing in the JSON. */
function ageMs({ callbacks }: Group): number | undefined {
  const id = /^\[\{"id":"([0-9a-f]{8})-([0-9a-f]{4})-7/.exec(callbacks.slice(0, 50))
  return id === null ? undefined : Math.max(0, Date.now() - Number.parseInt(id[1]! + id[2]!, 16))
}

/**
 * Enqueues one job for each handler. What cannot be enqueued is left to the scanner, which finds it at once, or, if
 * Postgres fails too, when its lease has run out.
 */
async function enqueueAll(
  { sql, enqueueDeliveries, log }: StoreDependencies,
  deliveries: Stored['deliveries'],
): Promise<void> {
  for (const [handler, own] of Map.groupBy(deliveries, (delivery) => delivery.handler)) {
    try {
      await enqueueDeliveries({ version: '1', handler, deliveries: firstAttempts(own) })
    } catch (error) {
      log.warn({ handler, count: own.length, error: (error as Error).message }, 'deliveries.deferred')
      await leaveToScanner(sql, own).catch(() => undefined)
    }
  }
}

/** The number of stalls from which on a group is logged: a single one only means that a worker was killed. */
const SUSPECT_STALLS = 2
/** How long a job that this version cannot read goes back to the queue, until a newer worker takes it. */
const UNREADABLE_MS = 30_000

/** Reads a job. One that this version cannot read goes back to the queue, because it was acknowledged. */
function readJob(
  { log, onPostponed, postponedMs = UNREADABLE_MS }: StoreDependencies,
  { id: jobId, data, stalls = 0 }: QueueJob,
): NamedGroup | PostponedError {
  const id = jobId.replace(/^group-/, '')
  if (stalls >= SUSPECT_STALLS) log.warn({ groupId: id, times: stalls }, 'group.stalled')
  const reading = readStoreJob(data)
  if ('group' in reading) return { id, group: reading.group }
  const version = (data as { version?: unknown } | null | undefined)?.version
  const fields = reading.unreadable
  log.error({ groupId: id, version: String(version).slice(0, 20), fields, retryInMs: postponedMs }, 'group.unreadable')
  onPostponed?.('unreadable')
  return new PostponedError('this version of the worker cannot read it', postponedMs)
}

/** Stores what ingest has counted, once for each group. */
async function storeCounts(sql: Sql, groupId: string, counted: string): Promise<void> {
  await sql`
    with claimed as (insert into store_groups (id) values (${groupId}) on conflict do nothing returning id)
    select store_counts(${counted}) from claimed`
}

/** Whether a group holds a canary and nothing else. It is stored like any other, but not counted. */
function isOnlyCanary({ callbacks, quarantined, dropped }: Group): boolean {
  return callbacks === '[]' && quarantined === '[]' && dropped === '[]'
}
