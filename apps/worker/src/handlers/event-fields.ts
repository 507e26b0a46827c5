import type { HandledEvent } from '@ringback/core/handlers'

/** The fields of an event that `forward` as JSON and `queue` send, except the payload. */
export function eventFields(event: HandledEvent): object {
  const { id, source, accountId, type, callbackId, callId, verifiedBy } = event
  const occurredAt = event.occurredAt.toISOString()
  const receivedAt = event.receivedAt.toISOString()
  return { id, source, accountId, type, callbackId, callId, occurredAt, receivedAt, verifiedBy }
}
