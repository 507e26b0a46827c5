import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { truncate } from '@ringback/core/template'
import { jsonMessage, messageText, namesOf } from './message.ts'
import type { Message } from './message.ts'

/** Discord refuses a longer content. */
const MAX_LENGTH = 2000

/** Flag of a message: no previews of what it links to. */
const SUPPRESS_EMBEDS = 4

/** A message by a webhook; it mentions nobody, and a value is shown as it is written. */
export function discordMessage({ url, text }: Pick<WebhookAction, 'url' | 'text'>, event: HandledEvent): Message {
  const names = namesOf(event)
    .map(([label, value]) => `${label}: ${escape(value)}`)
    .join(' · ')
  const own = truncate(messageText(text, event, escape), MAX_LENGTH - names.length - 1)
  return jsonMessage(url, { content: `${own}\n${names}`, allowed_mentions: { parse: [] }, flags: SUPPRESS_EMBEDS })
}

/** A backslash before whatever Markdown gives a meaning. */
function escape(value: string): string {
  return value.replaceAll(/[\\*_~`|<>[\]()#@]/g, '\\$&')
}
