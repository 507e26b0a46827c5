import { randomUUIDv7 } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { z } from 'zod'
import type { GenuineCallback, PreviousName, RejectReason, VerifiedBy } from './providers/provider.ts'
import { storableText } from './storable-text.ts'

// What the queue carries between ingest and worker: the contract of both. A job is one group, and it carries all that
// the worker needs; nothing is read back. `migrations/0010_fewer_steps.sql` (store_callbacks) reads the same names.

/** One verified callback; what is optional is left out where it does not apply. */
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
  /** Without secrets. */
  url: string
  headers: Record<string, string>
  /** The callback's own bytes, base64. */
  raw: string
  /** JSON text to store as the payload where `raw` itself is not what Postgres takes as jsonb. */
  payload?: string | undefined
  /** Of the span of its request (W3C Trace Context), where traces are on. */
  traceparent?: string | undefined
}

/** One request or callback that was refused. */
export interface QueuedRefusal {
  id: string
  source: string
  reason: string
  /** Whether `body` is that of the request, or the bytes of one callback of it. */
  scope: 'request' | 'callback'
  method: string
  url: string
  remoteAddress?: string | undefined
  headers: Record<string, string>
  /** base64 */
  body: string
  callbackId?: string | undefined
  /** What Postgres said of a verified callback that it cannot store. */
  error?: string
}

/** How many refusals were not kept, beyond a source's allowance. */
export interface QueuedDrop {
  source: string
  reason: string
  count: number
}

/** Requests of one source in one minute, as one ingest counted them since its last report. Times are in ms since 1970. */
export interface QueuedCounts {
  minute: string
  /** Empty for requests that named no source. */
  source: string
  /** By the outcome's name. */
  outcomes: Record<string, number>
  /** From request to answer; see histogram.ts. */
  ackMs: number[]
  lastAcceptedAt?: number
  /** Refused since then, or in all. */
  refusedInARow: number
  /** When the first of these was refused. */
  refusedSince?: number
  lastRefusedAt?: number
}

/** What an ingest sends every few seconds by the way of its callbacks, to show that the way works. Times are in ms since 1970. */
export interface QueuedCanary {
  /** Host name and process id. */
  ingest: string
  host: string
  startedAt: number
  sentAt: number
  /** What waits on the ingest's own disk, where it has a spool. */
  spool?: { groups: number; bytes: number }
  /** One sentence, if the queue's server has lost what it had acknowledged to this ingest. */
  lost?: string
  /** The last one: the ingest ends in good order. */
  isLast?: true
}

const Group = z.object({
  callbacks: z.string(),
  quarantined: z.string(),
  dropped: z.string(),
  /** Of {@link QueuedCounts}; a group that has them has nothing else. */
  counted: z.string().optional(),
  /** Of {@link QueuedCanary}. */
  canary: z.string().optional(),
})

/**
 * What travels and is stored together. Each part is a JSON array as text (of {@link QueuedCallback}, {@link QueuedRefusal},
 * {@link QueuedDrop}), which ingest writes piece by piece and Postgres takes apart. Text, for three reasons: it is never
 * parsed and printed again on the way; as strings it holds nothing that jsonb refuses, where BullMQ keeps its jobs in
 * Postgres; and its size is known before it is sent.
 */
export type Group = z.infer<typeof Group>

/** A store job's data: one group, as it is or, where that is much smaller, packed. */
const StoreJob = Group.extend({
  version: z.literal('1'),
  /** The first three texts, which are then empty here: a line each, compressed (raw deflate), base64. */
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
  // As JSON, what is undefined is left out.
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
    payload,
    traceparent: from.traceparent,
  }
}

/** An index entry has its limits. */
const MAX_TEXT_LENGTH = 255

/** One piece of a group, already JSON text. */
export interface GroupPart {
  kind: 'callbacks' | 'quarantined' | 'dropped' | 'counted' | 'canary'
  json: string
}

/** What is shorter is not worth packing, and one callback by itself must not wait for that. */
const MIN_PACKED_LENGTH = 4096
/** A group is far smaller, save for one that is a single request. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024

/** The job that carries `parts`, in their order. */
export function storeJob(parts: readonly GroupPart[]): StoreJob {
  const { callbacks, quarantined, dropped, ...rest } = groupOf(parts)
  if (callbacks.length + quarantined.length < MIN_PACKED_LENGTH)
    return { version: '1', callbacks, quarantined, dropped, ...rest }
  // The lightest level: callbacks are much alike, and shrink to a tenth with it.
  const packed = deflateRawSync(`${callbacks}\n${quarantined}\n${dropped}`, { level: 1 }).toString('base64')
  return { version: '1', callbacks: '', quarantined: '', dropped: '', packed, ...rest }
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
  // Joined, which makes one flat text: added piece by piece, it would be taken apart and copied when it is written.
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
