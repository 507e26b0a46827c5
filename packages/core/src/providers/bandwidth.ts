import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { callbackElements, envelopeAt, jsonContent } from './message.ts'
import type { Content, Json, Message } from './message.ts'
import { fromIsoTime } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, RejectReason, Scheme } from './provider.ts'
import { definePreset } from './source.ts'

// Bandwidth: messages come in a JSON array, calls one object a request; nothing is signed. Source: dev.bandwidth.com.

/** Either shape, whatever the scheme: both products can be given one URL. */
function split({ json }: Message): CallbackFound[] | RejectReason {
  if (typeof json === 'string') return json
  const elements = callbackElements(json)
  if (elements !== undefined) return typeof elements === 'string' ? elements : elements.map(toCallback)
  const found = toCallback(json)
  return found.kind === 'unreadable' ? found.reason : [found]
}

function toCallback(json: Json): CallbackFound {
  const { text, raw } = jsonContent(json)
  if (!isObject(json.value)) return { kind: 'unreadable', reason: 'unreadable_body', raw }
  const callId = text('callId')
  const type = text('type') ?? text('eventType') ?? ''
  const time = text('time') ?? text('eventTime')
  const messageId = text('message', 'id')
  return {
    kind: 'found',
    callbackId:
      messageId === undefined
        ? callId && composeCallbackId(type, callId, time, partOfCall(text))
        : composeCallbackId(type, messageId, text('to') ?? '', time),
    type,
    callId,
    // A message-read has both: `eventTime` is when it was read.
    occurredAt: fromIsoTime(text('eventTime') ?? time),
    raw,
  }
}

/** Several streams, transcriptions and recordings of a call begin or end in one moment, at the latest with the call. */
function partOfCall(text: Content['text']): string | undefined {
  return (
    text('mediaStream', 'id') ??
    text('transcription', 'id') ??
    text('realTimeTranscription', 'id') ??
    text('recordingId')
  )
}

const unsigned = {
  signedText: unknown('No signature was found.'),
  secret: assumed('User name and password for the callback, entered beside its URL.'),
  covers: assumed('Only that the sender knows the password or the secret URL.'),
} as const

const messaging: Scheme = {
  facts: {
    ...unsigned,
    title: 'Messaging callbacks',
    headers: ['Authorization: Basic ...'],
    callbackId: assumed('`type`, `message.id`, `to` and `time`.'),
    type: documented('`type`, such as message-delivered.'),
    occurredAt: documented('`time`; for message-read `eventTime`.'),
    account: unknown('none; `message.applicationId` is the nearest'),
    callId: unknown('none'),
    timeLimit: documented('10 s.'),
    retries: documented('For 24 hours, until a 2xx. A callback can come more than once.'),
    answer: documented('Any 2xx.'),
    traps: [
      'The body is an array of one or more callbacks.',
      'One message to several numbers gives several callbacks with the same `message.id`.',
    ],
  },
  methods: ['POST'],
  split,
  envelope: (callbacks) => envelopeAt([], callbacks),
  delivery: {
    timeoutMs: 10_000,
    retryDelaysMs: [5_000, 30_000, 120_000, 600_000],
    isDelivered: is2xx,
  },
  samples: {
    'message-delivered': {
      json: {
        type: 'message-delivered',
        time: '{{iso}}',
        description: 'Message delivered to carrier.',
        to: '+15550100002',
        message: {
          id: '{{alphanumeric:29}}',
          time: '{{iso}}',
          to: ['+15550100002'],
          from: '+15550100001',
          text: '',
          applicationId: '93de2206-0000-4000-8000-000000000103',
          owner: '+15550100001',
          direction: 'out',
          segmentCount: 1,
          tag: 'demo',
        },
      },
    },
    'message-received': {
      json: {
        type: 'message-received',
        time: '{{iso}}',
        description: 'Incoming message received',
        to: '+15550100001',
        message: {
          id: '{{alphanumeric:29}}',
          time: '{{iso}}',
          to: ['+15550100001'],
          from: '+15550100002',
          text: 'Hello',
          applicationId: '93de2206-0000-4000-8000-000000000103',
          owner: '+15550100001',
          direction: 'in',
          segmentCount: 1,
        },
      },
    },
  },
}

const voice: Scheme = {
  facts: {
    ...unsigned,
    title: 'Voice callbacks',
    headers: ['Authorization: Basic ...'],
    callbackId: assumed(
      '`eventType`, `callId` and `eventTime`; of streams, transcriptions and recordings also their id (`mediaStream.id`, `transcription.id`, `realTimeTranscription.id` or `recordingId`). What has no `callId`, as most conference callbacks, is named by its bytes.',
    ),
    type: documented('`eventType`, such as disconnect.'),
    occurredAt: documented('`eventTime`.'),
    account: documented('`accountId`.'),
    callId: documented('`callId`.'),
    timeLimit: documented('15 s, unless set otherwise.'),
    retries: documented(
      'Where a call waits for BXML, only a fallback URL is called; all others are sent once more if the connection fails.',
    ),
    answer: assumed('BXML if a call waits. By default the source answers BXML without verbs: set `answer`.'),
    traps: ['A call ends when its BXML has no more verbs. For calls that wait, `answer` must say what happens next.'],
  },
  methods: ['POST'],
  split,
  answer: { contentType: 'application/xml', body: '<?xml version="1.0" encoding="UTF-8"?><Response></Response>' },
  delivery: {
    timeoutMs: 15_000,
    retryDelaysMs: [],
    isDelivered: is2xx,
  },
  samples: {
    disconnect: {
      json: {
        eventType: 'disconnect',
        eventTime: '{{iso}}',
        accountId: '9900000',
        applicationId: '93de2206-0000-4000-8000-000000000103',
        from: '+15550100001',
        to: '+15550100002',
        direction: 'inbound',
        callId: 'c-{{uuid}}',
        cause: 'hangup',
        startTime: '{{iso}}',
        endTime: '{{iso}}',
      },
    },
  },
}

/** Sources for Bandwidth, which signs nothing: the proof is a password or a secret URL. */
export const bandwidth = definePreset({
  name: 'bandwidth',
  title: 'Bandwidth',
  schemes: { messaging, voice },
  example: `bandwidth: bandwidth({
  basicAuth: { username: env('BANDWIDTH_USERNAME'), password: env('BANDWIDTH_PASSWORD') },
}),`,
  sourceAddresses: unknown(),
  setUp: [
    'Choose a user name and a password, put them into the variables that `basicAuth` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the callback URL of the application, with the same user name and password.',
  ],
  references: ['dev.bandwidth.com/docs/messaging/webhooks', 'dev.bandwidth.com/docs/voice/webhooks'],
})
