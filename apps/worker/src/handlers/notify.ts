import { HandlerError } from '@ringback/core/handlers'
import type { HandledEvent, PagerDutyAction, WebhookAction } from '@ringback/core/handlers'
import { discordMessage } from './discord.ts'
import { secretsOf, secretValuesOf } from './mask-secrets.ts'
import { alertOf } from './message.ts'
import { createOutgoingHttp } from './outgoing-http.ts'
import { pagerdutyMessage } from './pagerduty.ts'
import type { Runner } from './runner.ts'
import { slackMessage } from './slack.ts'
import { teamsMessage } from './teams.ts'

// Sends events as messages to people, through a service that takes a message as JSON by POST. Each service has a file that
// writes its messages; this one sends them.

/**
 * Makes the runner that sends events as messages to Slack, Teams, Discord or PagerDuty. What is kept of an answer holds no
 * secret. Once `isAlertOver`, PagerDuty is sent only the alert's end: an incident that is triggered after it was resolved
 * would stay open.
 */
export function createNotify(
  action: WebhookAction | PagerDutyAction,
  isAlertOver: (alertId: string) => Promise<boolean>,
): Runner {
  const { allowAddresses, timeoutMs } = action
  const http = createOutgoingHttp({
    allowAddresses,
    timeoutMs,
    maxRedirects: 0,
    clientCertificate: undefined,
    certificateOrigins: new Set(),
  })
  const post = {
    method: 'POST',
    url: new URL(action.url),
    headers: { 'content-type': 'application/json' },
    credentialHeaders: new Set<string>(),
  }
  const options = { timeoutMessage: `not done within ${timeoutMs} ms`, secrets: secretsIn(action) }
  return {
    timeoutMs,
    close: http.close,
    async run(event, { signal }) {
      const alert = action.kind === 'pagerduty' ? alertOf(event) : undefined
      if (alert !== undefined && !alert.isOver && (await isAlertOver(alert.id))) {
        return { response: '[not sent: the alert is over]' }
      }
      const body = Buffer.from(JSON.stringify(messageOf(action, event)))
      return http.send({ ...post, body }, { signal, ...options }).catch((error: HandlerError) => {
        throw FINAL_STATUSES.has(error.statusCode ?? 0) ? notRetryable(error) : error
      })
    },
  }
}

function messageOf(action: WebhookAction | PagerDutyAction, event: HandledEvent): object {
  switch (action.kind) {
    case 'slack':
      return slackMessage(action, event)
    case 'teams':
      return teamsMessage(action, event)
    case 'discord':
      return discordMessage(action, event)
    case 'pagerduty':
      return pagerdutyMessage(action, event)
  }
}

/** With these a service says that it does not understand the message or finds it too large. Another try is no use. */
const FINAL_STATUSES = new Set([400, 413])

function notRetryable({ message, statusCode, response, cause }: HandlerError): HandlerError {
  return new HandlerError(message, { retryable: false, statusCode, response, cause })
}

function secretsIn(action: WebhookAction | PagerDutyAction): string[] {
  if (action.kind === 'pagerduty') return [action.routingKey]
  const url = new URL(action.url)
  return [...secretsOf(url), ...secretValuesOf(url)]
}
