import { randomUUIDv7 } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { z } from 'zod'
import { cleanJson, mayHaveLargeExponents } from './clean-json.ts'
import type { GenuineCallback, PreviousName, RejectReason, VerifiedBy } from './providers/provider.ts'
import { storableText } from './storable-text.ts'

// The contract between ingest and worker: what the queue carries. A job is one group and holds all that the worker needs,
// so nothing is read back. `store_callbacks` in migrations/0024_many_at_once.sql reads the members by these names.

/** One callback to store. Members that do not apply are left out. */
export interface QueuedCallback {
  /** The event's id if this callback turns out to be new: a UUIDv7 whose time is the time of receipt. */
  id: string
  source: string
  accountId: string
  callbackId: string
  type: string
  callId?: string | undefined
  verifiedBy: VerifiedBy
  secret?: number | undefined
  nonces?: string[] | undefined
  previousName?: PreviousName | undefined
  wouldRefuse?: RejectReason | undefined
  occurredAt: string
  method: string
  /** Path and query, without secrets. */
  url: string
  headers: Record<string, string>
  /** The callback's own bytes, base64. */
  raw: string
  /** JSON text to store as the payload, if `raw` itself is not JSON that Postgres can hold as jsonb and print again. */
  payload?: string | undefined
  /** Names its request's span (W3C Trace Context), if tracing is on. */
  traceparent?: string | undefined
}

/** One request or callback that was refused. */
export interface QueuedRefusal {
  id: string
  source: string
  reason: string
  /** Whether `body` is the whole request's, or the bytes of one of its callbacks. */
  scope: 'request' | 'callback'
  method: string
  url: string
  remoteAddress?: string | undefined
  headers: Record<string, string>
  /** base64 */
  body: string
  callbackId?: string | undefined
  /** Postgres's error, if this is a verified callback that it cannot store. */
  error?: string
}

/** The number of refusals that were counted but not kept, because they exceeded a source's allowance. */
export interface QueuedDrop {
  source: string
  reason: string
  count: number
}

/**
 * Requests of one source in one minute, as one ingest counted them since its last report. Points in time are in ms since
 * 1970, except for `minute`.
 */
export interface QueuedCounts {
  /** The beginning of the minute, ISO 8601. */
  minute: string
  /** Empty for requests that named no source. */
  source: string
  /** Number of requests by the name of their outcome. */
  outcomes: Record<string, number>
  /** Histogram of the times from request to answer; see histogram.ts. */
  ackMs: number[]
  lastAcceptedAt?: number
  /** Requests refused since the last accepted one, or in all if none was accepted. */
  refusedInARow: number
  /** When the first of these was refused. */
  refusedSince?: number
  lastRefusedAt?: number
}

/** What an ingest sends every few seconds along the path of callbacks, to check it. Times are in ms since 1970. */
export interface QueuedCanary {
  /** Host name and process id. */
  ingest: string
  host: string
  startedAt: number
  sentAt: number
  /** What waits on the ingest's own disk, where it has a spool. */
  spool?: { groups: number; bytes: number }
  /** One sentence for people, if the queue's server has lost writes that it had acknowledged to this ingest. */
  lost?: string
  /** Whether this is the last one, because the ingest is shutting down as it should. */
  isLast?: true
}

const Group = z.object({
  callbacks: z.string(),
  quarantined: z.string(),
  dropped: z.string(),
  /** JSON array of {@link QueuedCounts}. Ingest sends counts as a group of their own, without callbacks. */
  counted: z.string().optional(),
  /** JSON array of {@link QueuedCanary}. */
  canary: z.string().optional(),
})

/**
 * The callbacks and other items that are sent and stored together. Each member is the text of a JSON array (of
 * {@link QueuedCallback}, {@link QueuedRefusal}, {@link QueuedDrop}), which ingest writes piece by piece and Postgres
 * parses. It is text for three reasons: nothing parses and prints it on the way; BullMQ's Postgres backend keeps jobs as
 * jsonb, which refuses some values (U+0000) but not their escapes within a text; and its size is known before it is sent.
 */
export type Group = z.infer<typeof Group>

/** A store job's data: one group, packed if it is large and shrinks by that. */
const StoreJob = Group.extend({
  version: z.literal('1'),
  /**
   * `callbacks`, `quarantined` and `dropped`, a line each, compressed (raw deflate), base64. They themselves are then ''.
   */
  packed: z.string().optional(),
})
export type StoreJob = z.infer<typeof StoreJob>

/** A deliveries job's data: one handler's deliveries of one group, each with the number of the attempt to make. */
export const DeliveriesJob = z.object({
  version: z.literal('1'),
  handler: z.string(),
  deliveries: z.array(z.object({ id: z.string(), attempt: z.string(), receivedAt: z.string() })),
})
export type DeliveriesJob = z.infer<typeof DeliveriesJob>

/** A genuine callback as the queue carries it, with a new id, whose time is now. */
export function queuedCallback(
  callback: GenuineCallback,
  from: Pick<QueuedCallback, 'source' | 'method' | 'url' | 'headers' | 'traceparent'>,
): QueuedCallback {
  const { accountId, callbackId, type, callId, verifiedBy, secret, nonces, previousName, wouldRefuse, payload } =
    callback
  // JSON.stringify leaves out what is undefined.
  return {
    id: randomUUIDv7(),
    source: from.source,
    accountId,
    callbackId,
    type: storableText(type, MAX_TEXT_LENGTH),
    callId: callId === undefined ? undefined : storableText(callId, MAX_TEXT_LENGTH),
    verifiedBy,
    secret,
    nonces,
    previousName,
    wouldRefuse,
    occurredAt: callback.occurredAt.toISOString(),
    method: from.method,
    url: from.url,
    headers: from.headers,
    raw: callback.raw.toString('base64'),
    payload: payload ?? cleanedPayload(callback.raw),
    traceparent: from.traceparent,
  }
}

function cleanedPayload(json: Buffer): string | undefined {
  return mayHaveLargeExponents(json) ? cleanJson(json.toString('utf8')) : undefined
}

/**
 * A callback with a payload that Postgres takes as jsonb, whatever the provider sent. Bytes that are not UTF-8 become U+FFFD
 * here; the column `raw` keeps them.
 */
export function withCleanPayload(callback: QueuedCallback): QueuedCallback {
  return { ...callback, payload: cleanJson(callback.payload ?? Buffer.from(callback.raw, 'base64').toString('utf8')) }
}

/** The longest type or call id that is stored, in UTF-16 units: both are indexed, and Postgres limits an index entry. */
const MAX_TEXT_LENGTH = 255

/** One piece of a group, already JSON text. */
export interface GroupPart {
  kind: 'callbacks' | 'quarantined' | 'dropped' | 'counted' | 'canary'
  json: string
}

/** The length from which a group is packed. Packing less gains little, and would delay a callback that comes alone. */
const MIN_PACKED_LENGTH = 4096
/**
 * The length beyond which a group may be one large callback that holds a file, which packing makes no smaller: it would only
 * take 30 ms of ingest's time for each megabyte. Groups of ordinary callbacks are seldom so long.
 */
const MAX_UNSAMPLED_LENGTH = 256 * 1024
const SAMPLE_LENGTH = 16 * 1024
/** The most that a packed group may unpack to. Groups are far smaller, unless one is a single large request. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024

/** The job that carries `parts`, in their order. */
export function storeJob(parts: readonly GroupPart[]): StoreJob {
  const group = groupOf(parts)
  const text = `${group.callbacks}\n${group.quarantined}\n${group.dropped}`
  if (text.length < MIN_PACKED_LENGTH || (text.length > MAX_UNSAMPLED_LENGTH && !shrinks(text)))
    return { version: '1', ...group }
  return { version: '1', ...group, callbacks: '', quarantined: '', dropped: '', packed: pack(text) }
}

/** The fastest level is enough: callbacks are much alike, and shrink to a tenth with it. */
const pack = (text: string) => deflateRawSync(text, { level: 1 }).toString('base64')

/** Whether a sample from its middle says that packing the text saves a tenth. */
function shrinks(text: string): boolean {
  const from = Math.floor((text.length - SAMPLE_LENGTH) / 2)
  return pack(text.slice(from, from + SAMPLE_LENGTH)).length < 0.9 * SAMPLE_LENGTH
}

/** The group that a job carries, or the names of the fields that cannot be read. Never throws. */
export function readStoreJob(data: unknown): { group: Group } | { unreadable: string[] } {
  const parsed = StoreJob.safeParse(data)
  if (!parsed.success) return { unreadable: parsed.error.issues.map(({ path }) => path.join('.')) }
  const { packed, version: _version, ...group } = parsed.data
  if (packed === undefined) return { group }
  try {
    const bytes = inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: MAX_UNPACKED_BYTES })
    const [callbacks, quarantined, dropped, ...more] = bytes.toString().split('\n')
    if (dropped === undefined || more.length > 0) return { unreadable: ['packed'] }
    return { group: { ...group, callbacks: callbacks!, quarantined: quarantined!, dropped } }
  } catch {
    return { unreadable: ['packed'] }
  }
}

/** `parts` as one group, in their order. */
export function groupOf(parts: readonly GroupPart[]): Group {
  // join() makes one flat string. One that is concatenated piece by piece would have to be flattened when it is written.
  const lists: Partial<Record<GroupPart['kind'], string[]>> = {}
  for (const { kind, json } of parts) (lists[kind] ??= []).push(json)
  const { callbacks, quarantined, dropped, counted, canary } = lists
  return {
    callbacks: array(callbacks),
    quarantined: array(quarantined),
    dropped: array(dropped),
    ...(counted && { counted: array(counted) }),
    ...(canary && { canary: array(canary) }),
  }
}

const array = (texts: string[] = []) => `[${texts.join(',')}]`
