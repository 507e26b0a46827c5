// What the worker watches for, and what it reports.

/** The kinds of alerts. */
export const ALERT_KINDS = [
  'destination_failing',
  'destination_open',
  'destination_disabled',
  'dead_letters',
  'source_refusing',
  'source_quiet',
  'store_lagging',
  'quarantine_filling',
  'calls_unended',
  'canary_late',
  'spool_in_use',
  'queue_data_lost',
] as const

export type AlertKind = (typeof ALERT_KINDS)[number]

/** The thresholds at which alerts are raised. */
export interface AlertPolicy {
  /** Failures in a row of a destination, and refusals in a row of a source. */
  consecutiveFailures: number
  /** How long a busy source may go without an accepted request. */
  quietMinutes: number
  /** The usual number of accepted requests a minute that makes a source a busy one. */
  busyPerMinute: number
  /** Time from the receipt of a callback until it is stored. */
  storeLagSeconds: number
  /** Refusals of one source within 5 minutes, kept or only counted. */
  quarantinedIn5Minutes: number
  /** Time from a call's first event in which it has to end; 0 watches no calls. */
  unendedCallMinutes: number
  /** The age of an ingest's newest canary that has come through. */
  canarySeconds: number
  /** Kinds that are never raised. */
  disabled: AlertKind[]
}

/** The policy, unless the configuration sets another. */
export const defaultAlerts: AlertPolicy = {
  consecutiveFailures: 3,
  quietMinutes: 15,
  busyPerMinute: 1,
  storeLagSeconds: 60,
  quarantinedIn5Minutes: 100,
  unendedCallMinutes: 0,
  canarySeconds: 60,
  disabled: [],
}

/** The payload of the events `alert.raised`, `alert.reminded` and `alert.resolved`. */
export interface AlertNotice {
  alert_id: string
  kind: AlertKind
  /** The handler, source or ingest that it is about; empty where it is about Ringback as a whole. */
  subject: string
  /** One sentence for people. */
  text: string
  occurrences: number
  raised_at: string
  details: Record<string, unknown>
}
