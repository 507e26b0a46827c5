import type { HandledEvent } from './handlers.ts'
import { valueAt } from './value-at.ts'

// Texts with tokens that stand for what an event holds.

/** `((name))`, or `{{name}}`, as in the URLs of `forward`. Brackets around anything with a space in it are text. */
const TOKEN = /\(\(([^\s(){}]+)\)\)|\{\{([^\s(){}]+)\}\}/g

/** How much of a value a message shows: a payload can be as large as a request. */
const MAX_VALUE_LENGTH = 10_000

/**
 * Puts the event's values into `template`, each through `escape`; the template's own text stays as it is. A name is a
 * field of the payload, else one of the event; names with dots between them lead into objects and lists. What the event
 * does not have is empty, a time is ISO 8601, an object is JSON, and more than 10,000 characters are cut.
 */
export function render(template: string, event: HandledEvent, escape: (value: string) => string): string {
  return template.replaceAll(TOKEN, (_token, inRound?: string, inCurly?: string) => {
    const name = inRound ?? inCurly ?? ''
    const value = find(event.payload, name) ?? find(event, name)
    return escape(truncate(asText(value), MAX_VALUE_LENGTH))
  })
}

/** `text` with at most `maxLength` UTF-16 units, the last an ellipsis where something is missing. */
export function truncate(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text
  // Half of a character outside the basic plane would be refused by whoever gets the text.
  return `${text.slice(0, maxLength - 1).replace(/[\ud800-\udbff]$/, '')}…`
}

/** A field whose own name has dots in it goes first; null counts as nothing. */
function find(from: unknown, name: string): unknown {
  return valueAt(from, [name]) ?? valueAt(from, name.split('.'))
}

function asText(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value === 'string') return value
  if (value instanceof Date) return value.toISOString()
  return JSON.stringify(value)
}
