import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { jsonMessage, textWithNames } from './message.ts'
import type { Message } from './message.ts'

/** Discord refuses a longer content. */
const MAX_LENGTH = 2000

/** Flag of a message: no previews of what it links to. */
const SUPPRESS_EMBEDS = 4

/** A message by a webhook; it mentions nobody, and a value is shown as it is written. */
export function discordMessage({ url, text }: Pick<WebhookAction, 'url' | 'text'>, event: HandledEvent): Message {
  const whole = textWithNames(text, event, { escape, maxLength: MAX_LENGTH })
  return jsonMessage(url, { content: whole, allowed_mentions: { parse: [] }, flags: SUPPRESS_EMBEDS })
}

/** A backslash before whatever Markdown gives a meaning. */
function escape(value: string): string {
  return value.replaceAll(/[\\*_~`|<>[\]()#@]/g, '\\$&')
}
