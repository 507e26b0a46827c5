import { hash } from 'node:crypto'
import { composeCallbackId } from './callback-id.ts'
import { jsonContent } from './message.ts'
import type { Content, Message } from './message.ts'
import { digest, fromBase64, fromUnixSeconds, toUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, observed, unknown } from './provider.ts'
import type { CallbackFound, OutgoingRequest, Proof, RejectReason } from './provider.ts'
import { definePreset } from './source.ts'

// Bird, once MessageBird: an HMAC over time, URL and the body's hash. For MessageBird's own API see messagebird.ts.

const LF = '\n'

/** The body's hash goes in as its 32 bytes, not as text. */
function signedText(timestamp: string, url: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(timestamp + LF + url + LF), hash('sha256', body, 'buffer')])
}

function proofs({ header, url, body }: Message): Proof[] | RejectReason {
  const [text, timestamp] = [header('messagebird-signature'), header('messagebird-request-timestamp')]
  if (text === undefined) return 'signature_missing'
  const signature = fromBase64(text)
  if (signature.length === 0) return 'signature_unreadable'
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromUnixSeconds(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signed = signedText(timestamp, url, body)
  return [{ algorithm: 'hmac-sha256', signed, signature, encoding: 'base64', covers: 'body', signedAt }]
}

function sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const timestamp = String(toUnixSeconds(at))
  const signed = signedText(timestamp, request.url, request.body)
  return {
    ...request,
    headers: {
      ...request.headers,
      'messagebird-request-timestamp': timestamp,
      'messagebird-signature': digest('hmac-sha256', Buffer.from(secret), signed).toString('base64'),
    },
  }
}

/** The events of messages that come and go. Any other event says that something has changed. */
const OF_MESSAGE = /\.(?:inbound|outbound)$/

/** All statuses of a message come under one event. Other things may change without a new status, so their bytes count. */
function nameOf({ text, raw }: Content): string | undefined {
  const event = text('event')
  const content = OF_MESSAGE.test(event ?? '') ? undefined : hash('sha256', raw, 'hex')
  return composeCallbackId(text('payload', 'id'), event, text('payload', 'status'), content)
}

function split({ json, header }: Message): CallbackFound[] | RejectReason {
  if (typeof json === 'string') return json
  const content = jsonContent(json)
  const { text, raw } = content
  return [
    {
      kind: 'found',
      callbackId: nameOf(content),
      type: [text('service'), text('event')].filter((part) => part !== undefined).join('.'),
      // Repetitions, too, carry the time of the first attempt, which is near to that of the event.
      occurredAt: fromUnixSeconds(header('messagebird-request-timestamp') ?? ''),
      raw,
    },
  ]
}

/** Sources for webhook subscriptions of the Bird API; that of MessageBird has a preset of its own. */
export const bird = definePreset({
  name: 'bird',
  title: 'Bird',
  schemes: {
    signed: {
      facts: {
        title: 'Webhook subscriptions of the Bird API',
        headers: ['messagebird-signature', 'messagebird-request-timestamp'],
        signedText: documented(
          'messagebird-request-timestamp LF URL LF SHA-256 of the body as 32 bytes (not as hex); HMAC-SHA256, base64',
        ),
        secret: documented(
          'the `signingKey` given when the webhook subscription was created; its bytes are used as they are',
        ),
        covers: documented('the body, the URL and the time'),
        callbackId: assumed(
          '`payload.id`, `event` and `payload.status`, and, except for messages, a hash of the body, because a conversation can change without a new status. No id of the delivery was found',
        ),
        type: observed('`service` and `event`, joined by "."'),
        occurredAt: observed('the header’s time, which is that of the first attempt'),
        account: unknown('none'),
        callId: unknown('none'),
        timeLimit: unknown(),
        retries: documented(
          'at growing intervals, for 8 hours; about 24 were seen, and each repetition had the time and signature of the first attempt',
        ),
        answer: documented('any 2xx'),
        traps: [
          'Repetitions hours later still carry the first attempt’s time, so no age is refused. `toleranceSeconds` would refuse every repetition older than that.',
          'The URL is signed as Bird called it: behind a proxy set `PUBLIC_BASE_URL`.',
          'A subscription created without `signingKey` is not signed at all.',
        ],
      },
      methods: ['POST'],
      signature: { proofs, sign, coversUrl: true, coversQuery: true },
      split,
      delivery: {
        timeoutMs: 10_000,
        retryDelaysMs: [5_000, 60_000, 600_000],
        isDelivered: is2xx,
      },
      samples: {
        'channels.sms.outbound': {
          json: {
            service: 'channels',
            event: 'sms.outbound',
            payload: { id: '{{uuid}}', channelId: '{{uuid}}', status: 'delivered', createdAt: '{{iso}}' },
          },
        },
        'channels.sms.inbound': {
          json: {
            service: 'channels',
            event: 'sms.inbound',
            payload: {
              id: '{{uuid}}',
              channelId: '{{uuid}}',
              sender: { contact: { identifierValue: '+15550100001' } },
              body: { type: 'text', text: { text: 'Hello' } },
              createdAt: '{{iso}}',
            },
          },
        },
      },
    },
  },
  sourceAddresses: unknown(),
  setUp: [
    'Make up a signing key and put it into the variable that `secrets` names; set `PUBLIC_BASE_URL`; restart Ringback.',
    'Create the webhook subscription with `https://your.host/callbacks/<source>` as its URL and the same `signingKey`.',
  ],
  references: ['docs.bird.com, Notifications API, webhook subscriptions and verifying a webhook'],
})
