import { z } from 'zod'
import type { ConfigText, ResolveAction } from './config.ts'
import { checked, configText, configTexts, timeoutMs } from './checked-options.ts'
import type { ActionDefinition } from './handlers.ts'
import { addressList } from './providers/access.ts'
import type { AddressList } from './providers/access.ts'
import { redisUrlProblem } from './queue/redis-url.ts'

// Handlers that notify people of an event, or put it on a queue of the user's own: their options, and the actions that are
// made of these when the configuration is loaded.

export interface EmailOptions {
  /**
   * `smtps://user:password@host:465` is TLS from the start, `smtp://user:password@host:587` is STARTTLS. Special characters
   * in the user and the password are percent-encoded.
   */
  smtpUrl: ConfigText
  /** `alerts@example.com`, or `Ringback <alerts@example.com>`. */
  from: ConfigText
  /** All of them get one mail, and see each other's addresses. */
  to: ConfigText | ConfigText[]
  /** Templates, `((type))`: any field of the event, and what it holds. Values are escaped in `html`. */
  subject?: string
  text?: string
  html?: string
  /** If false, a server that offers no STARTTLS gets the mail unencrypted. For a relay on a private network. */
  requireTls?: boolean
  /** PEM certificates of the authorities that are trusted here, instead of those that Node.js trusts. */
  ca?: ConfigText
  /** Default 30 s. */
  timeoutMs?: number
}

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

export interface QueueOptions {
  /** In any form that the variable REDIS_URL may have; that variable, if left out. */
  redisUrl?: ConfigText
  /** The queue's name. */
  name: string
  /** The jobs' name; the event's type where it is left out. */
  jobName?: string
  /** BullMQ's prefix of the queue's keys; `bull` where it is left out, as there. */
  prefix?: string
  /** BullMQ's options of the jobs. As with BullMQ itself, finished jobs are kept unless this says otherwise. */
  jobOptions?: QueueJobOptions
  /** Default 5 s. */
  timeoutMs?: number
}

/** The members of BullMQ's JobsOptions that can be set. */
export interface QueueJobOptions {
  attempts?: number | undefined
  backoff?: number | { type: string; delay?: number | undefined } | undefined
  delay?: number | undefined
  priority?: number | undefined
  lifo?: boolean | undefined
  removeOnComplete?: KeepJobs | undefined
  removeOnFail?: KeepJobs | undefined
}

type KeepJobs = boolean | number | { age: number; count?: number | undefined } | { count: number }

export interface EmailAction {
  kind: 'email'
  smtp: SmtpServer
  from: string
  to: string[]
  subject: string | undefined
  text: string | undefined
  html: string | undefined
  timeoutMs: number
}

/** A mail server; holds a password. */
export interface SmtpServer {
  host: string
  port: number
  credentials: { user: string; password: string } | undefined
  /** TLS from the start, by STARTTLS, or by STARTTLS where the server offers it. */
  tls: 'implicit' | 'required' | 'offered'
  ca: string | undefined
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

export interface QueueAction {
  kind: 'queue'
  redisUrl: string
  name: string
  jobName: string | undefined
  prefix: string | undefined
  jobOptions: QueueJobOptions
  timeoutMs: number
}

/** Sends a mail. It is tried again unless the server refuses it for good (5xx, except 503). */
export function email(options: EmailOptions): ActionDefinition<EmailAction> {
  return {
    kind: 'email',
    resolve: (resolve) => {
      const given = checked(emailOptions, options, { smtpUrl: '', from: '', to: '' }, resolve.problem)
      const { subject, text, html, timeoutMs } = given
      const to = resolve.optional(given.to)
      if (to.length === 0) resolve.problem('to is empty or not set: nobody would get the mail')
      const from = resolve.required('from', given.from)
      if ([from, ...to].some((address) => address !== '' && !ADDRESS.test(address))) {
        resolve.problem('from and to hold mail addresses, one a text: alerts@example.com, or Name <alerts@example.com>')
      }
      return { kind: 'email', smtp: resolveSmtp(given, resolve), from, to, subject, text, html, timeoutMs }
    },
  }
}

/** Posts a message by an incoming webhook of Slack. */
export function slack(options: WebhookOptions): ActionDefinition<WebhookAction> {
  return webhook('slack', options)
}

/** Posts an adaptive card by a workflow of Microsoft Teams, "When a Teams webhook request is received". */
export function teams(options: WebhookOptions): ActionDefinition<WebhookAction> {
  return webhook('teams', options)
}

/** Posts a message by a webhook of Discord. It mentions nobody. */
export function discord(options: WebhookOptions): ActionDefinition<WebhookAction> {
  return webhook('discord', options)
}

/**
 * Triggers an incident by PagerDuty's Events API v2, one for each event. Ringback's own alerts trigger one for each
 * alert, which resolves itself when the alert does.
 */
export function pagerduty(options: PagerDutyOptions): ActionDefinition<PagerDutyAction> {
  return {
    kind: 'pagerduty',
    resolve: (resolve) => {
      const { baseUrl, severity, ...given } = checked(pagerdutyOptions, options, { routingKey: '' }, resolve.problem)
      const routingKey = resolve.required('routingKey', given.routingKey)
      const url = `${baseUrl.replace(/\/$/, '')}/v2/enqueue`
      return { kind: 'pagerduty', ...resolveMessage('baseUrl', url, given, resolve), routingKey, severity }
    },
  }
}

/**
 * Adds a job to a BullMQ queue of your own, on Redis: its data is the event. The job's id is the delivery's idempotency
 * key, so that an attempt that is repeated adds nothing as long as the job is kept.
 */
export function queue(options: QueueOptions): ActionDefinition<QueueAction> {
  return {
    kind: 'queue',
    resolve: (resolve) => {
      const { name, jobName, prefix, jobOptions, timeoutMs, ...given } = checked(
        queueOptions,
        options,
        { name: '-' },
        resolve.problem,
      )
      const redisUrl = resolve.required('redisUrl', given.redisUrl)
      const problem = redisUrl === '' ? undefined : redisUrlProblem(redisUrl)
      if (problem !== undefined) resolve.problem(`redisUrl ${problem}`)
      return { kind: 'queue', redisUrl, name, jobName, prefix, jobOptions, timeoutMs }
    },
  }
}

function webhook(kind: WebhookAction['kind'], options: WebhookOptions): ActionDefinition<WebhookAction> {
  return {
    kind,
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

const LOOPBACK = new Set(['localhost', '127.0.0.1', '::1'])

function resolveSmtp(options: z.output<typeof emailOptions>, resolve: ResolveAction): SmtpServer {
  const url = resolve.required('smtpUrl', options.smtpUrl)
  const ca = options.ca === undefined ? undefined : resolve.required('ca', options.ca)
  const server = parseSmtpUrl(url, options.requireTls)
  if (server === undefined) {
    if (url !== '') {
      resolve.problem(
        'smtpUrl must be smtps://user:password@host:465 or smtp://user:password@host:587, percent-encoded',
      )
    }
    return { host: '', port: 0, credentials: undefined, tls: 'required', ca }
  }
  if (server.tls === 'offered' && server.credentials !== undefined && !LOOPBACK.has(server.host)) {
    resolve.problem('smtpUrl has a password, which requireTls: false would send in the open: leave requireTls out')
  }
  return { ...server, ca }
}

/** Accepts only these parts of a URL: a query could switch off the check of certificates, unseen. */
function parseSmtpUrl(text: string, requireTls: boolean): Omit<SmtpServer, 'ca'> | undefined {
  const url = URL.parse(text)
  if (url === null || !['smtp:', 'smtps:'].includes(url.protocol) || url.hostname === '') return undefined
  if (url.search !== '' || url.hash !== '' || !['', '/'].includes(url.pathname)) return undefined
  const isImplicit = url.protocol === 'smtps:'
  const startTls = requireTls ? 'required' : 'offered'
  try {
    const user = decodeURIComponent(url.username)
    const password = decodeURIComponent(url.password)
    return {
      host: decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, '$1'),
      port: Number(url.port || (isImplicit ? 465 : 587)),
      credentials: user === '' ? undefined : { user, password },
      tls: isImplicit ? 'implicit' : startTls,
    }
  } catch {
    return undefined // a "%" that encodes nothing
  }
}

// Mail addresses have more forms than can be checked here. No line ends, for those would begin another header.
const ADDRESS = /^[^\p{Cc}]*[^\s\p{Cc}]@[^\s\p{Cc}]+$/u

const emailOptions = z.strictObject({
  smtpUrl: configText,
  from: configText,
  to: configTexts,
  subject: z.string().optional(),
  text: z.string().optional(),
  html: z.string().optional(),
  requireTls: z.boolean().default(true),
  ca: configText.optional(),
  timeoutMs: timeoutMs.default(30_000),
})

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

const kept = z.union([
  z.boolean(),
  z.int(),
  z.strictObject({ age: z.int().min(0), count: z.int().min(0).optional() }),
  z.strictObject({ count: z.int().min(0) }),
])

/** BullMQ refuses jobs with a larger one. */
const MAX_PRIORITY = 2 ** 21 - 1

const queueOptions = z.strictObject({
  redisUrl: configText.default({ fromEnvironment: 'REDIS_URL' }),
  name: z.string().regex(/^[^:]+$/, 'must be a text without ":", as BullMQ asks for'),
  jobName: z.string().min(1).optional(),
  prefix: z.string().min(1).optional(),
  jobOptions: z
    .strictObject({
      attempts: z.int().min(1).optional(),
      backoff: z
        .union([z.int().min(0), z.strictObject({ type: z.string(), delay: z.int().min(0).optional() })])
        .optional(),
      delay: z.int().min(0).optional(),
      priority: z.int().min(0).max(MAX_PRIORITY).optional(),
      lifo: z.boolean().optional(),
      removeOnComplete: kept.optional(),
      removeOnFail: kept.optional(),
    })
    .default({}),
  timeoutMs: timeoutMs.default(5000),
})
