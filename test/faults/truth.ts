import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { HANDLED_TYPE } from './load.ts'
import type { Load } from './load.ts'
import type { Receiver } from './receiver.ts'
import type { Stand } from './stand.ts'

// Counts what is left when everything is over. It counts rows one by one and trusts no unique key.

export interface Truth {
  /** Callbacks that were sent; each has its own callback_id. */
  distinctSent: number
  /** Callbacks that were never answered 200 although they were sent again and again: Ringback has not recovered. */
  neverAccepted: number
  distinctStored: number
  /** Callbacks that were answered 200 and are not stored. */
  lost: number
  /** callback_ids with more than one row. */
  storedTwice: number
  /** Stored events that the handler never got. */
  handlerRunsMissing: number
  /** Runs after an event's first. */
  handlerRunsRepeated: number
  /** How many duplicates must be counted at least: every 200 after a callback's first. */
  duplicatesRequired: number
  duplicatesCounted: number
  /** How long after the end of the fault all that was accepted by then was stored and handled. */
  recoveryMs: number
}

/**
 * Waits until everything accepted is stored and handled and nothing more happens, or until nothing has happened for
 * `patienceMs`. Then counts.
 * @param faultEndedAt milliseconds since 1970
 */
export async function findTruth(
  stand: Stand,
  load: Load,
  { faultEndedAt, patienceMs }: { faultEndedAt: number; patienceMs: number },
): Promise<Truth> {
  const sql = connect(stand.databaseUrl, { max: 1, applicationName: 'ringback faults' })
  try {
    await untilSettled(sql, load, stand.receiver, patienceMs)
    return await count(sql, load, stand.receiver, faultEndedAt)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** How long to wait once everything is there for what may still come: copies stored again, repeated runs. */
const QUIET_MS = 2000
const POLL_MS = 250

async function untilSettled(sql: Sql, { callbacks }: Load, receiver: Receiver, patienceMs: number): Promise<void> {
  const accepted = [...callbacks.values()].filter(({ acceptedAt }) => acceptedAt !== undefined).length
  let seen = ''
  let changedAt = performance.now()
  for (;;) {
    const [row] = await sql<{ stored: number; handled: number; duplicates: number }[]>`
      select
        count(distinct callback_id)::integer as stored, count(*) filter (where type = ${HANDLED_TYPE})::integer as handled,
        coalesce(sum(duplicates), 0)::integer as duplicates
      from events where source = 'voximplant'`.catch(() => [])
    const now = JSON.stringify([row, receiver.runs()])
    if (now !== seen) changedAt = performance.now()
    seen = now
    const isComplete = row !== undefined && row.stored >= accepted && receiver.firstAt.size >= row.handled
    if (performance.now() - changedAt > (isComplete ? QUIET_MS : patienceMs)) return
    await sleep(POLL_MS)
  }
}

async function count(sql: Sql, { callbacks }: Load, receiver: Receiver, faultEndedAt: number): Promise<Truth> {
  const rows = await sql<{ id: string; callbackId: string; type: string; storedAt: number; duplicates: number }[]>`
    select
      id, callback_id as "callbackId", type, duplicates,
      (extract(epoch from stored_at) * 1000)::float8 as "storedAt"
    from events where source = 'voximplant'`
  const byCallback = Map.groupBy(rows, ({ callbackId }) => callbackId)
  const handled = rows.filter(({ type }) => type === HANDLED_TYPE)
  let lost = 0
  let neverAccepted = 0
  let duplicatesRequired = 0
  let recoveredAt = faultEndedAt
  for (const [id, { acceptedAt, answers200 }] of callbacks) {
    const [row] = byCallback.get(id) ?? []
    if (acceptedAt === undefined) neverAccepted += 1
    else if (row === undefined) lost += 1
    else if (acceptedAt <= faultEndedAt) {
      recoveredAt = Math.max(recoveredAt, row.storedAt, receiver.firstAt.get(row.id) ?? 0)
    }
    duplicatesRequired += Math.max(0, answers200 - 1)
  }
  return {
    distinctSent: callbacks.size,
    neverAccepted,
    distinctStored: byCallback.size,
    lost,
    storedTwice: [...byCallback.values()].filter(({ length }) => length > 1).length,
    handlerRunsMissing: handled.filter(({ id }) => !receiver.firstAt.has(id)).length,
    handlerRunsRepeated: receiver.runs() - receiver.firstAt.size,
    duplicatesRequired,
    duplicatesCounted: rows.reduce((sum, { duplicates }) => sum + duplicates, 0),
    recoveryMs: recoveredAt - faultEndedAt,
  }
}
