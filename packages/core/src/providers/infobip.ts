import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { callbackElements, envelopeAt, firstText, jsonContent } from './message.ts'
import type { Content, Json, Message } from './message.ts'
import { fromIsoTime } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, RejectReason } from './provider.ts'
import { definePreset } from './source.ts'

// Infobip: reports and messages in batches; no signature is documented. Source: infobip.com/docs and its SDKs.

function split({ json }: Message): CallbackFound[] | RejectReason {
  if (typeof json === 'string') return json
  if (!isObject(json.value)) return 'unreadable_body'
  if (!Object.hasOwn(json.value, 'results')) return [toCallback(json)]
  const results = callbackElements(json, 'results') ?? 'unreadable_body'
  return typeof results === 'string' ? results : results.map(toCallback)
}

function toCallback(json: Json): CallbackFound {
  const { text, raw } = jsonContent(json)
  if (!isObject(json.value)) return { kind: 'unreadable', reason: 'unreadable_body', raw }
  const time = reportedAt(text) ?? text('receivedAt') ?? text('timestamp')
  return {
    kind: 'found',
    callbackId: nameOf(text),
    type: typeOf(text, json.value),
    callId: text('callId'),
    occurredAt: fromIsoTime(time),
    raw,
  }
}

/** When what is reported of a message became so; of a voice message only the times of its call are told. */
function reportedAt(text: Content['text']): string | undefined {
  return text('doneAt') ?? text('seenAt') ?? text('deletedAt') ?? text('voiceCall', 'endTime')
}

function nameOf(text: Content['text']): string | undefined {
  const eventId = text('eventId')
  if (eventId !== undefined) return eventId
  const statusId = text('status', 'id')
  const time = reportedAt(text)
  if (statusId !== undefined || time !== undefined) return composeCallbackId(text('messageId'), statusId ?? '', time)
  // Of a message that came in, the id alone is its name. Else the id says only which message it is about.
  return text('receivedAt') === undefined ? undefined : text('messageId')
}

/** Most callbacks have no word for what they are; their shape tells. */
function typeOf(text: Content['text'], value: object): string {
  const type = firstText(text, ['type', 'event', 'notificationType']) ?? text('event', 'type')
  if (type !== undefined) return type
  if (Object.hasOwn(value, 'status')) return 'delivery-report'
  if (Object.hasOwn(value, 'seenAt')) return 'seen-report'
  if (Object.hasOwn(value, 'deletedAt')) return 'deleted-report'
  return Object.hasOwn(value, 'receivedAt') ? 'incoming-message' : ''
}

/** Sources for Infobip, which signs nothing: the proof is a password or a secret URL. */
export const infobip = definePreset({
  name: 'infobip',
  title: 'Infobip',
  schemes: {
    unsigned: {
      facts: {
        title: 'Delivery, seen and deleted reports, incoming messages, opened and clicked e-mail, events of calls',
        headers: ['Authorization, as set up'],
        signedText: unknown('Signing is offered for subscriptions, but its header and text are not public.'),
        secret: documented('Authentication is set for each subscription; a secret URL works in any case.'),
        covers: assumed('Only that the sender knows the password or the secret URL.'),
        callbackId: assumed(
          '`eventId`, which opened and clicked e-mail can have, and which is documented to identify duplicates; else `messageId`, `status.id` and `doneAt`, `seenAt`, `deletedAt` or `voiceCall.endTime`; for incoming messages (`receivedAt`) `messageId`. Anything else, such as events of calls, is named by its bytes.',
        ),
        type: assumed(
          'Determined by the shape: `delivery-report`, `seen-report`, `deleted-report`, `incoming-message`; `type`, `event`, `notificationType` or `event.type` if present.',
        ),
        occurredAt: assumed(
          '`doneAt`, `seenAt`, `deletedAt`, `voiceCall.endTime` or `receivedAt`; for events of calls `timestamp` (documented).',
        ),
        account: unknown('none'),
        callId: documented('`callId`.'),
        timeLimit: unknown(),
        retries: documented('After 1 minute plus n × n minutes, where n counts the repetitions.'),
        answer: documented('Any 2xx.'),
        traps: [
          'One request holds many results, which can belong to different messages.',
          'Times are written with “+0000”, without a colon.',
        ],
      },
      methods: ['POST'],
      split,
      envelope: (callbacks) => envelopeAt(['results'], callbacks),
      delivery: {
        timeoutMs: 10_000,
        retryDelaysMs: [60_000, 120_000, 300_000],
        isDelivered: is2xx,
      },
      samples: {
        'delivery-report': {
          json: {
            bulkId: 'BULK-{{digits:8}}',
            messageId: 'MSG-{{digits:16}}',
            to: '15550100001',
            sentAt: '{{iso}}',
            doneAt: '{{iso}}',
            smsCount: 1,
            status: {
              groupId: 3,
              groupName: 'DELIVERED',
              id: 5,
              name: 'DELIVERED_TO_HANDSET',
              description: 'Message delivered to handset',
            },
            error: { groupId: 0, groupName: 'OK', id: 0, name: 'NO_ERROR', permanent: false },
          },
        },
        'incoming-message': {
          json: {
            messageId: 'MSG-{{digits:16}}',
            from: '15550100001',
            to: '15550100002',
            text: 'Hello',
            receivedAt: '{{iso}}',
            smsCount: 1,
          },
        },
      },
    },
  },
  example: `infobip: infobip({
  basicAuth: { username: env('INFOBIP_USERNAME'), password: env('INFOBIP_PASSWORD') },
}),`,
  sourceAddresses: unknown(),
  setUp: [
    'Choose a user name and a password, or a secret URL, put them into the variables that `basicAuth` or `urlTokens` name, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the URL of the subscription or as the `notifyUrl` of messages, with the same authentication.',
  ],
  references: [
    'infobip.com/docs/cpaas-x/subscriptions-management',
    'dev.infobip.com/docs/notify-url',
    'github.com/infobip/infobip-api-java-client, EmailWebhookTrackingPayload, CallsEvent and CallsReport',
  ],
})
