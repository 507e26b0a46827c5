import type { AlertNotice } from '@ringback/core/alerts'
import type { HandledEvent } from '@ringback/core/handlers'
import { render, truncate } from '@ringback/core/template'

// What messages to people have in common: a text, and the names of the event. They hold nothing of the payload unless a
// template asks for it, because it may be personal data.

/** The message's own text: the rendered template, or without one an alert's text, or the event's type and source. */
export function messageText(
  template: string | undefined,
  event: HandledEvent,
  escape: (value: string) => string = (value) => value,
): string {
  const text = template === undefined ? escape(defaultText(event)) : render(template, event, escape)
  // Services refuse malformed text, and line ends are the only control characters that mean anything in a message.
  return text
    .toWellFormed()
    .replaceAll(/\r\n?/g, '\n')
    .replaceAll(/[^\P{Cc}\n]/gu, ' ')
}

function defaultText(event: HandledEvent): string {
  return alertOf(event)?.text ?? `${event.type} from ${event.source}`
}

/** The length to which names are cut, so that there is always room for the text. */
const MAX_NAME_LENGTH = 200

/** What names the event, each with its label and on one line. */
export function namesOf(event: HandledEvent): [label: string, value: string][] {
  return [
    ['Source', event.source],
    ['Type', oneLine(event.type, MAX_NAME_LENGTH)],
    ['Callback', oneLine(event.callbackId, MAX_NAME_LENGTH)],
    ['Time', event.occurredAt.toISOString()],
  ]
}

/** A message that is one text: its own, and below it what names the event. No longer than `maxLength` UTF-16 units. */
export function textWithNames(
  template: string | undefined,
  event: HandledEvent,
  { escape, maxLength }: { escape: (value: string) => string; maxLength: number },
): string {
  const names = namesOf(event)
    .map(([label, value]) => `${label}: ${escape(value)}`)
    .join(' · ')
  return `${truncate(messageText(template, event, escape), maxLength - names.length - 1)}\n${names}`
}

/** `text` without control characters and line ends, cut to `maxLength` UTF-16 units. */
export function oneLine(text: string, maxLength: number): string {
  return truncate(
    text
      .toWellFormed()
      .replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
      .trim(),
    maxLength,
  )
}

/** What an event says about an alert of Ringback's own. */
export interface Alert {
  /** The same for all events of one alert. */
  id: string
  isOver: boolean
  text: string
}

/** The alert that an event of Ringback's own is about; undefined for any other event. */
export function alertOf({ source, type, payload }: HandledEvent): Alert | undefined {
  if (source !== 'ringback' || !type.startsWith('alert.')) return undefined
  const { alert_id: id, text } = (payload ?? {}) as Partial<AlertNotice>
  if (typeof id !== 'string' || typeof text !== 'string') return undefined
  const isOver = type === 'alert.resolved'
  return { id, isOver, text }
}
