import { randomUUIDv7 } from 'node:crypto'
import { advisoryLocks } from '@ringback/core/advisory-locks'
import { ALERT_KINDS } from '@ringback/core/alerts'
import type { AlertKind, AlertNotice } from '@ringback/core/alerts'
import type { QueuedCallback } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import { OWN_SOURCE, createMatch } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'
import { leaveToScanner, storeCallbacks } from '../store-callbacks.ts'
import { logWhenFailed } from '../when-failed.ts'
import { isWatched, looks } from './conditions.ts'
import type { LookDependencies } from './look.ts'
import { keyOf, transitions } from './transitions.ts'
import type { Condition, OpenAlert, Transitions } from './transitions.ts'

export interface AlertDependencies {
  sql: Sql
  config: Pick<Config, 'sources' | 'handlers' | 'alerts'>
  queueAgeMs: LookDependencies['queueAgeMs']
  log: Logger
}

/** How long a statement of one look may take. A look that takes longer is left out this time. */
const LOOK_TIMEOUT = '5s'

/** When an alert that this worker does not watch for counts as over: so long after another worker saw it last. */
const LEFT_AFTER = '1 minute'

/** A change of an alert that is to be reported. */
interface Notice {
  transition: 'raised' | 'reminded' | 'resolved'
  alert: OpenAlert
  /** The number of occurrences that a reminder is for; 1 for what happens once in an alert. */
  number: number
}

/**
 * Makes the function that looks for what is wrong and reports what has changed: once, however many workers call it at the
 * same time. A report is an event of the source `ringback`, stored in one transaction with the change if a handler asks for
 * it. Its deliveries are like any other's.
 */
export function createEvaluateAlerts({ sql, config, queueAgeMs, log }: AlertDependencies): () => Promise<void> {
  const match = createMatch(config.handlers, logWhenFailed(log))

  async function evaluate(transaction: TransactionSql): Promise<void> {
    const [row] = await transaction<{ isFirst: boolean; now: Date }[]>`
      select pg_try_advisory_xact_lock(${advisoryLocks.alerts}) as "isFirst", now() as now`
    if (!row!.isFirst) return
    const open = await transaction<(OpenAlert & { isLeft: boolean })[]>`
      select
        id, key, kind, subject, occurrences::float8 as occurrences, text, details, raised_at as "raisedAt",
        last_seen_at < now() - ${LEFT_AFTER}::text::interval as "isLeft"
      from alerts where state = 'open'`
    const { conditions, failed } = await lookAll(transaction, open)
    // Where a look failed nothing is known, so alerts of that kind stay as they are. So do those of other workers'
    // configurations, as while workers are replaced: each would take back what the other raises.
    const known = open.filter((alert) => !failed.has(alert.kind) && (isWatched(alert, config) || alert.isLeft))
    const notices = await save(transaction, transitions(known, conditions, row!.now), row!.now)
    await tell(transaction, notices, row!.now)
    // Before the commit, whose answer may be lost: rather twice than never.
    logAll(notices)
  }

  async function lookAll(
    transaction: TransactionSql,
    open: OpenAlert[],
  ): Promise<{ conditions: Condition[]; failed: Set<AlertKind> }> {
    const conditions: Condition[] = []
    const failed = new Set<AlertKind>()
    for (const kind of ALERT_KINDS) {
      if (config.alerts.disabled.includes(kind)) continue
      try {
        const found = await transaction.savepoint(async (savepoint) => {
          await savepoint`select set_config('statement_timeout', ${LOOK_TIMEOUT}, true)`
          const openSubjects = open.filter((alert) => alert.kind === kind).map(({ subject }) => subject)
          return looks[kind]({ sql: savepoint, config, queueAgeMs, openSubjects })
        })
        conditions.push(...found)
      } catch (error) {
        failed.add(kind)
        log.warn({ kind, error: (error as Error).message }, 'alerts.not_looked_for')
      }
    }
    return { conditions, failed }
  }

  async function tell(transaction: TransactionSql, notices: Notice[], now: Date): Promise<void> {
    if (notices.length === 0) return
    // Of the database's clock, like the partitions: of a worker's clock that is wrong there may be none.
    const ids = await transaction<{ id: string }[]>`select uuidv7() as id from generate_series(1, ${notices.length})`
    const told = notices.map((notice, index) => eventOf(ids[index]!.id, notice, now))
    const matched = told.flatMap(match)
    // Where no handler asks for alerts, `events` holds nothing but what providers sent.
    const callbacks = told.filter(({ id }) => matched.some(([matchedId]) => matchedId === id))
    if (callbacks.length === 0) return
    const { deliveries } = await storeCallbacks(transaction, { callbacks, matched })
    await leaveToScanner(transaction, deliveries)
  }

  function logAll(notices: Notice[]): void {
    for (const { transition, alert } of notices) {
      const { id, kind, subject, text, occurrences } = alert
      const level = transition === 'resolved' ? 'info' : 'error'
      log[level]({ alertId: id, kind, subject, occurrences, text }, `alert.${transition}`)
    }
  }

  return () => sql.begin(evaluate)
}

async function save(transaction: TransactionSql, { raise, seen, resolve }: Transitions, now: Date): Promise<Notice[]> {
  const raised = raise.map((condition): OpenAlert => ({
    ...condition,
    id: randomUUIDv7(),
    key: keyOf(condition),
    occurrences: condition.occurrences ?? 0,
    raisedAt: now,
  }))
  const current = seen.map(({ alert, condition: { text, details }, occurrences }) => ({
    ...alert,
    text,
    details,
    occurrences,
  }))
  await transaction`
    insert into alerts (id, key, kind, subject, occurrences, text, details)
    select * from json_to_recordset(${JSON.stringify(raised)}::json) as a (
      id uuid, key text, kind text, subject text, occurrences bigint, text text, details jsonb
    )`
  await transaction`
    update alerts as a
    set last_seen_at = now(), occurrences = c.occurrences, text = c.text, details = c.details
    from json_to_recordset(${JSON.stringify(current)}::json) as c (id uuid, occurrences bigint, text text, details jsonb)
    where a.id = c.id`
  await transaction`
    update alerts set state = 'resolved', resolved_at = now()
    where id in (select json_array_elements_text(${JSON.stringify(resolve.map(({ id }) => id))}::json)::uuid)`
  return [
    ...raised.map((alert): Notice => ({ transition: 'raised', alert, number: 1 })),
    ...seen.flatMap(({ remindAt }, index): Notice[] =>
      remindAt === undefined ? [] : [{ transition: 'reminded', alert: current[index]!, number: remindAt }],
    ),
    ...resolve.map((alert): Notice => ({ transition: 'resolved', alert, number: 1 })),
  ]
}

const PREFIXES = { raised: '', reminded: 'Still: ', resolved: 'Over: ' }

function eventOf(id: string, { transition, alert, number }: Notice, now: Date): QueuedCallback {
  const { id: alertId, kind, subject, occurrences, raisedAt, details } = alert
  const payload: AlertNotice = {
    alert_id: alertId,
    kind,
    subject,
    text: PREFIXES[transition] + alert.text,
    occurrences,
    raised_at: raisedAt.toISOString(),
    details,
  }
  return {
    id,
    source: OWN_SOURCE,
    accountId: '',
    callbackId: `${alertId}:${transition}:${number}`,
    type: `alert.${transition}`,
    verifiedBy: 'none',
    occurredAt: now.toISOString(),
    method: '',
    url: '',
    headers: {},
    raw: Buffer.from(JSON.stringify(payload)).toString('base64'),
  }
}
