import { z } from 'zod'
import type { ConfigText, ResolveAction } from '../config.ts'
import { checked, configText, configTexts, timeoutMs } from '../checked-options.ts'
import type { ActionDefinition } from '../handlers.ts'

// The action `email`: an event goes to people as a mail. docs/handlers.md describes the options; apps/worker sends it.

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

/** Sends a mail. It is tried again unless the server refuses it for good (5xx, except 503). */
export function email(options: EmailOptions): ActionDefinition {
  return {
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
