import type { HandledEvent, PagerDutyAction } from '@ringback/core/handlers'
import { alertOf, messageText, oneLine } from './message.ts'

/** Limits of the Events API v2, in characters. */
const MAX_SUMMARY_LENGTH = 1024
const MAX_DEDUP_KEY_LENGTH = 255

/**
 * An event for the Events API v2. Each event triggers an incident of its own, which stays the same one however often it is
 * sent. All events of one alert share an incident, which the last of them resolves.
 */
export function pagerdutyMessage(
  { routingKey, severity, text }: Pick<PagerDutyAction, 'routingKey' | 'severity' | 'text'>,
  event: HandledEvent,
): object {
  const alert = alertOf(event)
  return {
    routing_key: routingKey,
    event_action: alert?.isOver === true ? 'resolve' : 'trigger',
    dedup_key: (alert?.id ?? event.id).slice(0, MAX_DEDUP_KEY_LENGTH),
    client: 'Ringback',
    payload: {
      summary: summaryOf(text, event),
      source: event.source,
      severity,
      timestamp: event.occurredAt.toISOString(),
      class: event.type,
      custom_details: {
        event: event.id,
        callback: event.callbackId,
        ...(event.callId !== null && { call: event.callId }),
      },
    },
  }
}

/** The summary. PagerDuty refuses an empty one for good, so where the template comes out empty it is the default text. */
function summaryOf(template: string | undefined, event: HandledEvent): string {
  const [own, byDefault] = [template, undefined].map((text) => oneLine(messageText(text, event), MAX_SUMMARY_LENGTH))
  return own || byDefault!
}
