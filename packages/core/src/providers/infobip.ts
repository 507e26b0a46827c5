import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { callbackElements, envelopeAt, jsonContent } from './message.ts'
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
  const time = text('doneAt') ?? text('seenAt') ?? text('receivedAt')
  return {
    kind: 'found',
    callbackId: nameOf(text),
    type: typeOf(text, json.value),
    callId: text('callId'),
    occurredAt: fromIsoTime(time),
    raw,
  }
}

function nameOf(text: Content['text']): string | undefined {
  const statusId = text('status', 'id')
  const done = text('doneAt') ?? text('seenAt')
  // Of a message that came in, the id alone is its name.
  if (statusId === undefined && done === undefined) return text('messageId')
  return composeCallbackId(text('messageId'), statusId ?? '', done)
}

/** Most callbacks have no word for what they are; their shape tells. */
function typeOf(text: Content['text'], value: object): string {
  const type = text('type') ?? text('event')
  if (type !== undefined) return type
  if (Object.hasOwn(value, 'status')) return 'delivery-report'
  if (Object.hasOwn(value, 'seenAt')) return 'seen-report'
  return Object.hasOwn(value, 'receivedAt') ? 'incoming-message' : ''
}

/** Sources for Infobip, which signs nothing: the proof is a password or a secret URL. */
export const infobip = definePreset({
  name: 'infobip',
  title: 'Infobip',
  schemes: {
    unsigned: {
      facts: {
        title: 'Delivery and seen reports, incoming messages',
        headers: ['Authorization, as set up'],
        signedText: unknown('Signing is offered for subscriptions, but its header and text are not public.'),
        secret: documented('Authentication is set for each subscription; a secret URL works in any case.'),
        covers: assumed('Only that the sender knows the password or the secret URL.'),
        callbackId: assumed('`messageId`, `status.id` and `doneAt`; for incoming messages `messageId`.'),
        type: assumed(
          'Determined by the shape: `delivery-report`, `seen-report`, `incoming-message`; `type` or `event` if present.',
        ),
        occurredAt: assumed('`doneAt`, `seenAt` or `receivedAt`.'),
        account: unknown('none'),
        callId: assumed('`callId`.'),
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
  references: ['infobip.com/docs/cpaas-x/subscriptions-management', 'dev.infobip.com/docs/notify-url'],
})
