import type { QueuedCallback } from './callback.ts'
import { fieldTest } from './field-condition.ts'
import type { FieldCondition } from './field-condition.ts'
import type { HandledEvent } from './handlers.ts'
import { parsePayload } from './parse-payload.ts'
import type { VerifiedBy } from './providers/provider.ts'
import { messageOf } from './thrown.ts'

/** An event as a filter's `when` sees it, before it is stored. */
export type RoutedEvent = Omit<HandledEvent, 'details'>

/** Selects events. Every part that is given must match; a list matches if one of its entries does. */
export interface Filter {
  source?: string | string[] | undefined
  /** `*` stands for any characters: `sms_*`. */
  type?: string | string[] | undefined
  account?: string | string[] | undefined
  /** What the proof covered: one of these, or at least so much. */
  verifiedBy?: VerifiedBy | VerifiedBy[] | { atLeast: VerifiedBy } | undefined
  /** Fields of the payload, each by its path: `{ 'message.to': '+4930123456' }`. */
  fields?: Record<string, FieldCondition> | undefined
  /**
   * Called last, for events that match everything else. It must answer at once and change nothing. If it throws, the event
   * matches: a handler that runs once too often is noticed, and one that did not run is not.
   */
  when?: ((event: RoutedEvent) => boolean) | undefined
}

/** What a filter can be tested on without the payload. */
type Filterable = Pick<QueuedCallback, 'source' | 'accountId' | 'type' | 'verifiedBy'>

/** The source of Ringback's own events, its alerts. No configured source has this name. */
export const OWN_SOURCE = 'ringback'

/** From the strongest to the weakest. */
export const PROOFS = ['body', 'url', 'id', 'secret', 'none'] as const satisfies readonly VerifiedBy[]

/**
 * Compiles all of `filter` but `fields` and `when` into a test. An empty filter matches everything but Ringback's own
 * events: a handler gets those only if it names their source.
 */
export function matcher(filter: Filter): (event: Filterable) => boolean {
  const source = oneOf(filter.source)
  const type = oneOf(filter.type)
  const account = oneOf(filter.account)
  const proofs = proofsOf(filter.verifiedBy)
  const namesOwnSource = [filter.source].flat().includes(OWN_SOURCE)
  return (event) =>
    source(event.source) &&
    (namesOwnSource || event.source !== OWN_SOURCE) &&
    type(event.type) &&
    account(event.accountId) &&
    (proofs === undefined || proofs.includes(event.verifiedBy))
}

const ALERT_TYPES = ['alert.raised', 'alert.reminded', 'alert.resolved']

/** Whether `filter` lets alerts through, as far as can be told without one. */
export function letsAlertsThrough(filter: Filter): boolean {
  const matches = matcher(filter)
  return ALERT_TYPES.some((type) => matches({ source: OWN_SOURCE, accountId: '', verifiedBy: 'none', type }))
}

/** Those of `patterns` that no event can match where these are the configured sources. */
export function patternsOfNoSource(patterns: Filter['source'], sources: readonly string[]): string[] {
  return [patterns ?? []].flat().filter((pattern) => pattern !== OWN_SOURCE && !sources.some(glob(pattern)))
}

/** Called for a `when` that threw, with the message of what it threw. */
export type WhenFailed = (failure: { handler: string; eventId: string; error: string }) => void

/** A handler that is to act on a callback if that is new. */
export type Match = [eventId: string, handler: string]

/**
 * Compiles handlers into a function that returns those that are to act on a callback. The function parses the payload at most
 * once, and only if a handler needs it. It never throws.
 */
export function createMatch(
  handlers: readonly { name: string; on: Filter }[],
  whenFailed: WhenFailed,
): (callback: QueuedCallback) => Match[] {
  const matchers = handlers.map(({ name, on }) => ({ name, matches: matcher(on), content: contentMatcher(on) }))

  return (callback) => {
    let event: RoutedEvent | undefined
    const { id } = callback
    return matchers
      .filter(({ name, matches, content }) => {
        if (!matches(callback)) return false
        if (content === undefined) return true
        event ??= routedEvent(callback)
        try {
          return content(event)
        } catch (error) {
          whenFailed({ handler: name, eventId: id, error: messageOf(error) })
          return true
        }
      })
      .map(({ name }) => [id, name])
  }
}

/** Undefined if the filter does not need the payload. The test throws what `when` throws. */
function contentMatcher({ fields, when }: Filter): ((event: RoutedEvent) => boolean) | undefined {
  if (fields === undefined && when === undefined) return undefined
  const tests = Object.entries(fields ?? {}).map(([path, condition]) => fieldTest(path, condition))
  return (event) => tests.every((test) => test(event.payload)) && (when === undefined || answer(when(event)))
}

function answer(result: unknown): boolean {
  if (!(result instanceof Promise)) return Boolean(result)
  result.catch(() => {}) // nobody waits for it, and unhandled it would end the process
  throw new TypeError('"when" returned a promise; it must answer at once')
}

function routedEvent(callback: QueuedCallback): RoutedEvent {
  const { id, source, accountId, callbackId, type, callId, verifiedBy, occurredAt } = callback
  return {
    id,
    receivedAt: new Date(Number.parseInt(id.replace('-', '').slice(0, 12), 16)), // as UUIDv7 has it
    source,
    accountId,
    callbackId,
    type,
    callId: callId ?? null,
    verifiedBy,
    occurredAt: new Date(occurredAt),
    payload: payloadOf(callback),
  }
}

/** Undefined where it is no JSON: Postgres will refuse it too, and it goes to quarantine. */
function payloadOf({ payload, raw }: QueuedCallback): unknown {
  try {
    return parsePayload(payload ?? Buffer.from(raw, 'base64').toString('utf8'))
  } catch {
    return undefined
  }
}

function proofsOf(verifiedBy: Filter['verifiedBy']): readonly VerifiedBy[] | undefined {
  if (verifiedBy === undefined) return undefined
  if (typeof verifiedBy === 'string') return [verifiedBy]
  return Array.isArray(verifiedBy) ? verifiedBy : PROOFS.slice(0, PROOFS.indexOf(verifiedBy.atLeast) + 1)
}

function oneOf(patterns: string | string[] | undefined): (value: string) => boolean {
  if (patterns === undefined) return () => true
  const tests = [patterns].flat().map(glob)
  return (value) => tests.some((test) => test(value))
}

/** No regular expression: senders may choose the value, and a pattern with several `*` could take seconds to match it. */
function glob(pattern: string): (value: string) => boolean {
  const [start = '', ...middle] = pattern.split('*')
  const end = middle.pop()
  if (end === undefined) return (value) => value === pattern
  return (value) => {
    const last = value.length - end.length
    if (last < start.length || !value.startsWith(start) || !value.endsWith(end)) return false
    let from = start.length
    for (const part of middle) {
      const found = value.indexOf(part, from)
      if (found === -1 || found + part.length > last) return false
      from = found + part.length
    }
    return true
  }
}
