import type { AlertKind } from '@ringback/core/alerts'

// Which alerts to raise, remind of and resolve, given what is wrong now and which alerts are open. Pure functions.

/** Something that is wrong at this moment. */
export interface Condition {
  kind: AlertKind
  subject: string
  /** How often it has occurred, as its kind counts. Left out: the minutes since it was raised are counted. */
  occurrences?: number | undefined
  text: string
  details: Record<string, unknown>
}

/** An alert that was raised and not resolved. */
export interface OpenAlert extends Condition {
  id: string
  key: string
  /** The most occurrences that it has had. */
  occurrences: number
  raisedAt: Date
}

export interface Transitions {
  raise: Condition[]
  /** Open alerts that go on, with their condition now; `remindAt` is the number of occurrences to remind of, if any. */
  seen: { alert: OpenAlert; condition: Condition; occurrences: number; remindAt: number | undefined }[]
  resolve: OpenAlert[]
}

/** The numbers of occurrences at which an alert is reported again; of several reached at once, only the last. */
const REMINDERS = [10, 100, 1000]

/** What changes in the alerts. Each key has at most one condition and one open alert. */
export function transitions(open: readonly OpenAlert[], conditions: readonly Condition[], now: Date): Transitions {
  const known = new Map(open.map((alert) => [alert.key, alert]))
  const current = new Set(conditions.map(keyOf))
  return {
    raise: conditions.filter((condition) => !known.has(keyOf(condition))),
    seen: conditions.flatMap((condition) => {
      const alert = known.get(keyOf(condition))
      return alert === undefined ? [] : [seenAgain(alert, condition, now)]
    }),
    resolve: open.filter(({ key }) => !current.has(key)),
  }
}

/** The value of `alerts.key`. At most one alert with the same key is open. */
export function keyOf({ kind, subject }: { kind: AlertKind; subject: string }): string {
  return `${kind}:${subject}`
}

function seenAgain(alert: OpenAlert, condition: Condition, now: Date): Transitions['seen'][number] {
  const counted = condition.occurrences ?? Math.floor((now.getTime() - alert.raisedAt.getTime()) / 60_000)
  const occurrences = Math.max(alert.occurrences, counted)
  const remindAt = REMINDERS.findLast((count) => alert.occurrences < count && occurrences >= count)
  return { alert, condition, occurrences, remindAt }
}
