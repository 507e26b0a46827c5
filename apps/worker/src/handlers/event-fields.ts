import type { HandledEvent } from '@ringback/core/handlers'

/** What `forward` as JSON and `queue` tell of an event, but for its payload. */
export function eventFields(event: HandledEvent): object {
  const { id, source, accountId, type, callbackId, callId, verifiedBy } = event
  const occurredAt = event.occurredAt.toISOString()
  const receivedAt = event.receivedAt.toISOString()
  return { id, source, accountId, type, callbackId, callId, occurredAt, receivedAt, verifiedBy }
}
