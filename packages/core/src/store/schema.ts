import { boolean, customType, integer, jsonb, pgTable, smallint, text, timestamp, uuid } from 'drizzle-orm/pg-core'

// Tables as migrations/ make them, for typed queries; others are asked in SQL alone. Columns only: keys, checks, indexes and
// partitions are said once, in SQL. A test fails when this and a migrated database disagree.

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })
const time = (name: string) => timestamp(name, { withTimezone: true })

const eventColumns = {
  id: uuid('id').notNull(),
  receivedAt: time('received_at').notNull(),
  source: text('source').notNull(),
  accountId: text('account_id').notNull(),
  callbackId: text('callback_id').notNull(),
  type: text('type').notNull(),
  callId: text('call_id'),
  verifiedBy: text('verified_by', { enum: ['body', 'url', 'id', 'secret', 'none'] }).notNull(),
  occurredAt: time('occurred_at').notNull(),
  storedAt: time('stored_at').notNull().defaultNow(),
  payload: jsonb('payload').notNull(),
  raw: bytea('raw').notNull(),
  method: text('method').notNull(),
  url: text('url').notNull(),
  headers: jsonb('headers').notNull(),
  duplicates: integer('duplicates').notNull().default(0),
  lastDuplicateAt: time('last_duplicate_at'),
  secret: smallint('secret'),
  wouldRefuse: text('would_refuse'),
  traceparent: text('traceparent'),
}

/** Each callback once. Look it up by `id` and `receivedAt` together, so that only one partition is read. */
export const events = pgTable('events', eventColumns)

/** The first hundred repetitions of each event; `events.duplicates` counts them all. */
export const duplicates = pgTable('duplicates', {
  id: uuid('id').notNull(),
  eventId: uuid('event_id').notNull(),
  eventReceivedAt: time('event_received_at').notNull(),
  receivedAt: time('received_at').notNull(),
  contentHash: bytea('content_hash').notNull(),
  changed: boolean('changed').notNull(),
  raw: bytea('raw'),
})

const deliveryColumns = {
  id: uuid('id').notNull(),
  eventId: uuid('event_id').notNull(),
  eventReceivedAt: time('event_received_at').notNull(),
  handler: text('handler').notNull(),
  status: text('status', { enum: ['pending', 'succeeded', 'dead', 'canceled'] })
    .notNull()
    .default('pending'),
  attempts: integer('attempts').notNull().default(0),
  attemptsAtReplay: integer('attempts_at_replay').notNull().default(0),
  nextAttemptAt: time('next_attempt_at'),
  leaseUntil: time('lease_until'),
  createdAt: time('created_at').notNull().defaultNow(),
  finishedAt: time('finished_at'),
  lastError: text('last_error'),
  running: boolean('running').notNull().default(false),
}

/** One for each event and handler that matched, in the partition of its event: look it up by `eventReceivedAt` too. */
export const deliveries = pgTable('deliveries', deliveryColumns)

const attemptColumns = {
  deliveryId: uuid('delivery_id').notNull(),
  eventReceivedAt: time('event_received_at').notNull(),
  number: integer('number').notNull(),
  startedAt: time('started_at').notNull().defaultNow(),
  durationMs: integer('duration_ms'),
  outcome: text('outcome', { enum: ['succeeded', 'failed', 'abandoned'] }),
  statusCode: integer('status_code'),
  error: text('error'),
  response: text('response'),
}

/** One without an outcome is under way, or its worker is gone. In the partition of its event. */
export const attempts = pgTable('attempts', attemptColumns)

/** What was refused, partitioned by its own receipt. */
export const quarantine = pgTable('quarantine', {
  id: uuid('id').notNull(),
  source: text('source').notNull(),
  reason: text('reason').notNull(),
  receivedAt: time('received_at').notNull(),
  method: text('method').notNull(),
  url: text('url').notNull(),
  remoteAddress: text('remote_address'),
  headers: jsonb('headers').$type<Record<string, string>>().notNull(),
  body: bytea('body').notNull(),
  callbackId: text('callback_id'),
  error: text('error'),
  releasedAt: time('released_at'),
  scope: text('scope', { enum: ['request', 'callback'] }),
  releasedAs: text('released_as', { enum: ['verified', 'trusted'] }),
})

const keptAt = () => time('kept_at').notNull().defaultNow()

/** The events of dead letters whose partition was dropped. */
export const keptEvents = pgTable('kept_events', { ...eventColumns, keptAt: keptAt() })
/** Dead letters whose partition was dropped. To be read only: nothing there runs again. */
export const keptDeliveries = pgTable('kept_deliveries', { ...deliveryColumns, keptAt: keptAt() })
/** The attempts of such dead letters. */
export const keptAttempts = pgTable('kept_attempts', { ...attemptColumns, keptAt: keptAt() })
