import type { HandledEvent, WebhookAction } from '@ringback/core/handlers'
import { truncate } from '@ringback/core/template'
import { jsonMessage, messageText, namesOf } from './message.ts'
import type { Message } from './message.ts'

/** Slack's advice for a text; it cuts one at 40,000. */
const MAX_LENGTH = 4000

/** A message by an incoming webhook. A value cannot mention anybody or write a link; the template itself can. */
export function slackMessage({ url, text }: Pick<WebhookAction, 'url' | 'text'>, event: HandledEvent): Message {
  const names = namesOf(event)
    .map(([label, value]) => `${label}: ${escape(value)}`)
    .join(' · ')
  const own = truncate(messageText(text, event, escape), MAX_LENGTH - names.length - 1)
  return jsonMessage(url, { text: `${own}\n${names}`, unfurl_links: false, unfurl_media: false })
}

/** The three characters that Slack reads as control. */
function escape(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
