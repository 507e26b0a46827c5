import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { truncate } from '@ringback/core/template'
import { messageText, namesOf } from './message.ts'

/** Teams refuses a message of more than 28 KB. This many characters stay below that, whatever they are. */
const MAX_LENGTH = 6000

/** An adaptive card for a workflow "When a Teams webhook request is received". A value cannot write a link. */
export function teamsMessage({ text }: Pick<WebhookAction, 'text'>, event: HandledEvent): object {
  const own = truncate(messageText(text, event, escape), MAX_LENGTH)
  const card = {
    $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
    type: 'AdaptiveCard',
    version: '1.4',
    body: [
      // A card shows a single line end as a space.
      { type: 'TextBlock', text: own.replaceAll(/\n+/g, '\n\n'), wrap: true },
      { type: 'FactSet', facts: namesOf(event).map(([title, value]) => ({ title, value: escape(value) })) },
    ],
  }
  const contentType = 'application/vnd.microsoft.card.adaptive'
  return { type: 'message', attachments: [{ contentType, contentUrl: null, content: card }] }
}

/**
 * Cards have no escape for Markdown. A zero-width space takes a link [text](address) apart, even if one half of it is in the
 * template or in another value.
 */
function escape(value: string): string {
  return value.replaceAll(/\](?=\(|$)/g, ']\u200b').replace(/^\(/, '\u200b(')
}
