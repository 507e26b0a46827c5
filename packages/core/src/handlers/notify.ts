import { z } from 'zod'
import type { ConfigText, ResolveAction } from '../config.ts'
import { checked, configText, timeoutMs } from '../checked-options.ts'
import type { ActionDefinition } from '../handlers.ts'
import { addressList } from '../providers/access.ts'
import type { AddressList } from '../providers/access.ts'

// The actions that post a message to a service: `slack`, `teams`, `discord` and `pagerduty`. docs/handlers.md describes the
// options; apps/worker writes and sends the messages.

/** Options of every handler that posts a message to a service. */
export interface MessageOptions {
  /** A template for the message, `((details.sms_body))`. Nothing of the payload is sent unless it is named here. */
  text?: string
  /** Default 10 s. */
  timeoutMs?: number
  /** Addresses and CIDR ranges to send to although they are private. With them the URL may be `http://` as well. */
  allowAddresses?: string[]
}

export interface WebhookOptions extends MessageOptions {
  /** The whole URL that the service gave; it is a secret. */
  webhookUrl: ConfigText
}

/** PagerDuty's severity of an event. */
export type Severity = 'critical' | 'error' | 'warning' | 'info'

export interface PagerDutyOptions extends MessageOptions {
  /** The integration key of a service, Events API v2. */
  routingKey: ConfigText
  /** Default `error`. */
  severity?: Severity
  /** Where the Events API is, if not at `https://events.pagerduty.com`; in the EU, `https://events.eu.pagerduty.com`. */
  baseUrl?: string
}

interface MessageAction {
  /** Holds a secret, save for PagerDuty's. */
  url: string
  text: string | undefined
  timeoutMs: number
  allowAddresses: AddressList
}

export interface WebhookAction extends MessageAction {
  kind: 'slack' | 'teams' | 'discord'
}

export interface PagerDutyAction extends MessageAction {
  kind: 'pagerduty'
  routingKey: string
  severity: Severity
}

/** Posts a message by an incoming webhook of Slack. */
export function slack(options: WebhookOptions): ActionDefinition {
  return webhook('slack', options)
}

/** Posts an adaptive card by a workflow of Microsoft Teams, "When a Teams webhook request is received". */
export function teams(options: WebhookOptions): ActionDefinition {
  return webhook('teams', options)
}

/** Posts a message by a webhook of Discord. It mentions nobody. */
export function discord(options: WebhookOptions): ActionDefinition {
  return webhook('discord', options)
}

/**
 * Triggers an incident by PagerDuty's Events API v2, one for each event. Ringback's own alerts trigger one for each
 * alert, which resolves itself when the alert does.
 */
export function pagerduty(options: PagerDutyOptions): ActionDefinition {
  return {
    resolve: (resolve) => {
      const { baseUrl, severity, ...given } = checked(pagerdutyOptions, options, { routingKey: '' }, resolve.problem)
      const routingKey = resolve.required('routingKey', given.routingKey)
      const url = `${baseUrl.replace(/\/$/, '')}/v2/enqueue`
      return { kind: 'pagerduty', ...resolveMessage('baseUrl', url, given, resolve), routingKey, severity }
    },
  }
}

function webhook(kind: WebhookAction['kind'], options: WebhookOptions): ActionDefinition {
  return {
    resolve: (resolve) => {
      const given = checked(webhookOptions, options, { webhookUrl: '' }, resolve.problem)
      const url = resolve.required('webhookUrl', given.webhookUrl)
      return { kind, ...resolveMessage('webhookUrl', url, given, resolve) }
    },
  }
}

/** No problem shows the URL: it is a secret in itself. */
function resolveMessage(
  option: string,
  url: string,
  { text, timeoutMs, allowAddresses }: z.output<typeof messageOptions>,
  { problem }: ResolveAction,
): MessageAction {
  const protocol = URL.parse(url)?.protocol
  if (url !== '' && protocol !== 'https:' && !(protocol === 'http:' && allowAddresses.length > 0)) {
    problem(`${option} must be a URL that begins with https://`)
  }
  const allowed = addressList(allowAddresses, (range) => problem(`allowAddresses: ${range}`))
  return { url, text, timeoutMs, allowAddresses: allowed }
}

const messageOptions = z.strictObject({
  text: z.string().optional(),
  timeoutMs: timeoutMs.default(10_000),
  allowAddresses: z.array(z.string()).default([]),
})

const webhookOptions = messageOptions.extend({ webhookUrl: configText })

const pagerdutyOptions = messageOptions.extend({
  routingKey: configText,
  severity: z.enum(['critical', 'error', 'warning', 'info']).default('error'),
  baseUrl: z.string().default('https://events.pagerduty.com'),
})
