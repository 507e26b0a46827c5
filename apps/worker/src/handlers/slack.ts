import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { jsonMessage, textWithNames } from './message.ts'
import type { Message } from './message.ts'

/** Slack's advice for a text; it cuts one at 40,000. */
const MAX_LENGTH = 4000

/** A message by an incoming webhook. A value cannot mention anybody or write a link; the template itself can. */
export function slackMessage({ url, text }: Pick<WebhookAction, 'url' | 'text'>, event: HandledEvent): Message {
  const whole = textWithNames(text, event, { escape, maxLength: MAX_LENGTH })
  return jsonMessage(url, { text: whole, unfurl_links: false, unfurl_media: false })
}

/** The three characters that Slack reads as control. */
function escape(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
