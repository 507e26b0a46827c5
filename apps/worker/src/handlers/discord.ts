import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { textWithNames } from './message.ts'

/** Discord refuses a content that is longer. */
const MAX_LENGTH = 2000

/** Flag of a message: no previews of what it links to. */
const SUPPRESS_EMBEDS = 4

/** A message to a webhook. It mentions nobody, and values are shown as they are written. */
export function discordMessage({ text }: Pick<WebhookAction, 'text'>, event: HandledEvent): object {
  const whole = textWithNames(text, event, { escape, maxLength: MAX_LENGTH })
  return { content: whole, allowed_mentions: { parse: [] }, flags: SUPPRESS_EMBEDS }
}

/** Puts a backslash before every character that has a meaning in Markdown. */
function escape(value: string): string {
  return value.replaceAll(/[\\*_~`|<>[\]()#@]/g, '\\$&')
}
