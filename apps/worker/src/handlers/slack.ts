import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { textWithNames } from './message.ts'

/** The length that Slack advises for a text. It cuts a text at 40,000 characters. */
const MAX_LENGTH = 4000

/** A message to an incoming webhook. A value cannot mention anybody or write a link; the template itself can. */
export function slackMessage({ text }: Pick<WebhookAction, 'text'>, event: HandledEvent): object {
  const whole = textWithNames(text, event, { escape, maxLength: MAX_LENGTH })
  return { text: whole, unfurl_links: false, unfurl_media: false }
}

/** Escapes the three characters that Slack reads as control characters. */
function escape(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
