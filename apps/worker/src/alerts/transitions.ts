import type { AlertKind } from '@ringback/core/alerts'

// What is to be said of what is wrong now, given what has been said before: pure, and one notice for each change.

/** Something that is wrong at this moment. */
export interface Condition {
  kind: AlertKind
  subject: string
  /** How much of it there is, counted as its kind does. Undefined: the minutes since it was raised. */
  occurrences: number | undefined
  text: string
  details: Record<string, unknown>
}

/** An alert that was raised and not resolved. */
export interface OpenAlert extends Condition {
  id: string
  key: string
  /** The most that there was of it. */
  occurrences: number
  raisedAt: Date
}

export interface Transitions {
  raise: Condition[]
  /** Of each alert that is still there, what is new; `remindAt` where it is to be told of again. */
  seen: { alert: OpenAlert; condition: Condition; occurrences: number; remindAt: number | undefined }[]
  resolve: OpenAlert[]
}

/** An alert is told of again when so many occurrences are reached; of several at once, only of the last. */
const REMINDERS = [10, 100, 1000]

/** Of each key there is at most one condition and one open alert. */
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

/** What `alerts.key` holds: of each at most one alert is open. */
export function keyOf({ kind, subject }: { kind: AlertKind; subject: string }): string {
  return `${kind}:${subject}`
}

function seenAgain(alert: OpenAlert, condition: Condition, now: Date): Transitions['seen'][number] {
  const counted = condition.occurrences ?? Math.floor((now.getTime() - alert.raisedAt.getTime()) / 60_000)
  const occurrences = Math.max(alert.occurrences, counted)
  const remindAt = REMINDERS.findLast((count) => alert.occurrences < count && occurrences >= count)
  return { alert, condition, occurrences, remindAt }
}
