import { HandlerError } from '@ringback/core/handlers'
import type { AttemptReport, EmailAction, HandledEvent, HandlerContext, SmtpServer } from '@ringback/core/handlers'
import { render, truncate } from '@ringback/core/template'
import { createTransport } from 'nodemailer'
import { keptOf, MIN_SECRET_LENGTH } from './mask-secrets.ts'
import { messageText, namesOf, oneLine } from './message.ts'
import type { Runner } from './runner.ts'

// Sends events as mails, by SMTP. Connections are kept for a while: opening one, with TLS, costs more than a mail.

/** Some mail providers refuse more connections. */
const MAX_CONNECTIONS = 5
const MAX_ATTEMPTS = 4 * MAX_CONNECTIONS
/** How long an idle connection is kept: most servers keep it longer. */
const IDLE_TIMEOUT_MS = 30_000

/** Makes the runner that sends events as mails. It connects for the first of them; `close` ends the connections. */
export function createEmail(action: EmailAction): Runner {
  const transport = createPool(action)
  return {
    timeoutMs: action.timeoutMs,
    maxAttempts: MAX_ATTEMPTS,
    run: (event, context) => send(transport, action, event, context),
    close: async () => transport.close(),
  }
}

function createPool({ smtp, timeoutMs }: EmailAction) {
  const transport = createTransport(
    {
      ...connectionOptions(smtp, timeoutMs),
      pool: true,
      maxConnections: MAX_CONNECTIONS,
      idleTimeout: IDLE_TIMEOUT_MS,
      maxRequeues: 1, // once more on another connection, if the one that was kept turns out to be closed
      // Nothing in an event makes it read files or fetch pages.
      disableFileAccess: true,
      disableUrlAccess: true,
    },
    { headers: { 'Auto-Submitted': 'auto-generated' } }, // so that no absence note comes back
  )
  // Each mail fails with an error of its own. Without a listener, an error of a connection would end the process.
  transport.on('error', () => {})
  return transport
}

function connectionOptions({ host, port, credentials, tls, ca }: SmtpServer, timeoutMs: number) {
  return {
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'required',
    ...(credentials && { auth: { user: credentials.user, pass: credentials.password } }),
    tls: { rejectUnauthorized: true, minVersion: 'TLSv1.2', ...(ca !== undefined && { ca }) } as const,
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    dnsTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    socketCloseTimeout: 1000,
    maxResponseSize: 64 * 1024,
  }
}

async function send(
  transport: ReturnType<typeof createPool>,
  action: EmailAction,
  event: HandledEvent,
  { idempotencyKey, signal }: HandlerContext,
): Promise<AttemptReport> {
  const { from, to, smtp } = action
  const secrets = secretsIn(smtp)
  const mail = { ...mailOf(action, event), from, to, messageId: messageIdOf(from, idempotencyKey), signal }
  const { rejected, response } = await transport.sendMail(mail).catch((error: unknown) => {
    throw failureOf(error, {
      secrets,
      timeoutMessage: signal.aborted ? `not done within ${action.timeoutMs} ms` : undefined,
    })
  })
  const kept = keptOf(response, secrets)
  if (rejected.length === 0) return { statusCode: Number.parseInt(response, 10), response: kept }
  // Another attempt would send the other recipients the same mail once more.
  throw new HandlerError(`the mail server refused ${rejected.join(', ')}; the other recipients have the mail`, {
    retryable: false,
    response: kept,
  })
}

/** What to mask in a server's answers: the password, as it is and as the commands that log in write it. */
function secretsIn({ credentials }: SmtpServer): string[] {
  const { user = '', password = '' } = credentials ?? {}
  if (password.length < MIN_SECRET_LENGTH) return []
  return [password, ...[password, `\u0000${user}\u0000${password}`].map((text) => Buffer.from(text).toString('base64'))]
}

/** Mail programs cut longer subjects in their lists anyway. */
const MAX_SUBJECT_LENGTH = 250
const MAX_BODY_LENGTH = 200_000

/** The subject and bodies of an event's mail, made from the templates or from what names the event. */
export function mailOf(
  { subject, text, html }: Pick<EmailAction, 'subject' | 'text' | 'html'>,
  event: HandledEvent,
): { subject: string; text: string; html?: string } {
  const names = namesOf(event).map(([label, value]) => `${label}: ${value}`)
  return {
    // On one line: after a line end, the payload could write a header.
    subject: oneLine(messageText(subject, event), MAX_SUBJECT_LENGTH),
    text: truncate(
      text === undefined ? [messageText(undefined, event), '', ...names, ''].join('\n') : messageText(text, event),
      MAX_BODY_LENGTH,
    ),
    ...(html !== undefined && { html: render(html, event, escapeHtml).toWellFormed() }),
  }
}

const HTML_ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function escapeHtml(value: string): string {
  return value.replaceAll(/[&<>"']/g, (character) => HTML_ESCAPES[character]!)
}

/** The Message-ID. It is the same for every attempt, by which mail programs and people can recognise a repetition. */
export function messageIdOf(from: string, idempotencyKey: string): string {
  const domain = /@([a-z0-9.-]+)>?\s*$/i.exec(from)?.[1] ?? 'ringback.invalid'
  return `<ringback.${idempotencyKey}@${domain}>`
}

/** The fields of nodemailer's errors that are used here. */
interface SmtpFailure {
  code?: string
  /** The code that the failure had before nodemailer's own. */
  originalCode?: string
  command?: string
  responseCode?: number
  response?: string
  /** Whether the server refused for good: 5xx except 503, which is about the state of the connection. */
  permanent?: boolean
}

function failureOf(
  cause: unknown,
  { secrets, timeoutMessage }: { secrets: string[]; timeoutMessage: string | undefined },
): HandlerError {
  if (timeoutMessage !== undefined) return new HandlerError(timeoutMessage, { retryable: true, cause })
  const { code, originalCode, command, responseCode, response, permanent } = cause as SmtpFailure
  if (responseCode !== undefined) {
    const message = `the mail server answered ${responseCode}${command === undefined ? '' : ` to ${command}`}`
    const kept = response === undefined ? undefined : keptOf(response, secrets)
    return new HandlerError(message, { retryable: permanent !== true, statusCode: responseCode, response: kept, cause })
  }
  // Only codes, because messages name hosts. ETLS has a hint, because its cause can be mended in the configuration.
  const hint = code === 'ETLS' ? ': it offers no STARTTLS, or its certificate is not trusted' : ''
  const why = originalCode ?? code ?? (cause as Error).name
  return new HandlerError(`the mail server could not be talked to (${why})${hint}`, { retryable: true, cause })
}
