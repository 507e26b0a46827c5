// What the worker looks out for, and how it tells.

/** What can be wrong. */
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

/** When something is an alert. */
export interface AlertPolicy {
  /** Failures in a row of a destination, and refusals in a row of a source. */
  consecutiveFailures: number
  /** A busy source is quiet when no request of it was accepted for so long. */
  quietMinutes: number
  /** A source is busy when it usually has so many accepted requests a minute. */
  busyPerMinute: number
  /** From the receipt of a callback until it is stored. */
  storeLagSeconds: number
  /** Refusals of one source within 5 minutes, kept or only counted. */
  quarantinedIn5Minutes: number
  /** A call is to have ended so long after its first event; 0 watches no calls. */
  unendedCallMinutes: number
  /** From the last canary of an ingest that came through. */
  canarySeconds: number
  /** Kinds that are not looked for. */
  disabled: AlertKind[]
}

/** What holds where the configuration says nothing else. */
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
