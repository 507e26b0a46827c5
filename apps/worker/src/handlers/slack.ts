import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { jsonMessage, textWithNames } from './message.ts'
import type { Message } from './message.ts'

/** The length that Slack advises for a text. It cuts a text at 40,000 characters. */
const MAX_LENGTH = 4000

/** A message to an incoming webhook. A value cannot mention anybody or write a link; the template itself can. */
export function slackMessage({ url, text }: Pick<WebhookAction, 'url' | 'text'>, event: HandledEvent): Message {
  const whole = textWithNames(text, event, { escape, maxLength: MAX_LENGTH })
  return jsonMessage(url, { text: whole, unfurl_links: false, unfurl_media: false })
}

/** Escapes the three characters that Slack reads as control characters. */
function escape(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
