import { hash } from 'node:crypto'
import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { jsonContent } from './message.ts'
import type { Content, Message } from './message.ts'
import { digest, fromBase64, fromIsoTime, fromUnixSeconds, toUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, observed, unknown } from './provider.ts'
import type {
  CallbackFound,
  DeliveryRule,
  OutgoingRequest,
  Proof,
  RejectReason,
  Scheme,
  Signature,
} from './provider.ts'
import samples from './samples/sinch.json' with { type: 'json' }
import { pathOf } from './signed-text.ts'
import { definePreset } from './source.ts'

// Sinch: several products, of which each calls back in its own way. Source: developers.sinch.com.

/** Either word, whatever the product: the documentation of Voice 2.0 prints both. */
const AUTHORIZATION = /^(?:application|service) +[^\s:]+:([A-Za-z0-9+/=]+)$/i

function toKey(secret: string): Buffer {
  const key = fromBase64(secret)
  if (key.length === 0) throw new Error('it must be base64, as the Sinch dashboard shows it')
  return key
}

/** What Voice and Verification sign; the path is that of the public URL, without query. */
function requestText(
  request: { method: string; url: string; body: Buffer },
  contentType: string | undefined,
  timestamp: string,
): Buffer {
  const { method, url, body } = request
  const bodyHash = body.length === 0 ? '' : hash('md5', body, 'base64')
  return Buffer.from([method, bodyHash, contentType ?? '', `x-timestamp:${timestamp}`, pathOf(url)].join('\n'))
}

function requestProofs({ method, url, body, header }: Message): Proof[] | RejectReason {
  const authorization = header('authorization')
  if (authorization === undefined) return 'signature_missing'
  const signature = fromBase64(AUTHORIZATION.exec(authorization)?.[1])
  if (signature.length === 0) return 'signature_unreadable'
  const timestamp = header('x-timestamp')
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromIsoTime(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signed = requestText({ method, url, body }, header('content-type'), timestamp)
  return [{ algorithm: 'hmac-sha256', signed, signature, encoding: 'base64', covers: 'body', signedAt }]
}

/** `word` and `key` are what stands before the signature. No time limit: Sinch asks for one, but names none. */
function requestSignature(word: string, key: string): Signature {
  return {
    key: toKey,
    proofs: requestProofs,
    coversUrl: true,
    headers: ['authorization'],
    sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
      const timestamp = at.toISOString()
      const signed = requestText(request, request.headers['content-type'], timestamp)
      const signature = digest('hmac-sha256', toKey(secret), signed).toString('base64')
      return {
        ...request,
        headers: { ...request.headers, 'x-timestamp': timestamp, authorization: `${word} ${key}:${signature}` },
      }
    },
  }
}

const CONVERSATION = 'x-sinch-webhook-signature'

function conversationText(body: Buffer, nonce: string, timestamp: string): Buffer {
  return Buffer.concat([body, Buffer.from(`.${nonce}.${timestamp}`, 'latin1')])
}

function conversationProofs({ header, body }: Message): Proof[] | RejectReason {
  const text = header(CONVERSATION)
  if (text === undefined) return 'signature_missing'
  const signature = fromBase64(text)
  // The only algorithm that is documented; were it another, its signature would not match either.
  const algorithm = header(`${CONVERSATION}-algorithm`) ?? 'HmacSHA256'
  if (signature.length === 0 || algorithm.toLowerCase() !== 'hmacsha256') return 'signature_unreadable'
  const nonce = header(`${CONVERSATION}-nonce`)
  if (!nonce) return 'nonce_missing'
  const timestamp = header(`${CONVERSATION}-timestamp`)
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromUnixSeconds(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signed = conversationText(body, nonce, timestamp)
  return [{ algorithm: 'hmac-sha256', signed, signature, encoding: 'base64', covers: 'body', signedAt }]
}

function signConversation(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const timestamp = String(toUnixSeconds(at))
  const nonce = hash('sha256', Buffer.concat([request.body, Buffer.from(timestamp)]), 'hex').slice(0, 26)
  const signature = digest('hmac-sha256', Buffer.from(secret), conversationText(request.body, nonce, timestamp))
  return {
    ...request,
    headers: {
      ...request.headers,
      [CONVERSATION]: signature.toString('base64'),
      [`${CONVERSATION}-nonce`]: nonce,
      [`${CONVERSATION}-timestamp`]: timestamp,
      [`${CONVERSATION}-algorithm`]: 'HmacSHA256',
    },
  }
}

const webhookSignature: Signature = { proofs: conversationProofs, sign: signConversation }

type Found = Pick<CallbackFound & { kind: 'found' }, 'callbackId' | 'type' | 'callId' | 'occurredAt'>

/** Every product sends one JSON object a request. */
function splitObject(read: (content: Content, message: Message, value: object) => Found): Scheme['split'] {
  return (message) => {
    const { json } = message
    if (typeof json === 'string') return json
    if (!isObject(json.value)) return 'unreadable_body'
    return [{ kind: 'found', ...read(jsonContent(json), message, json.value), raw: json.raw }]
  }
}

const splitVoice = splitObject(({ text }) => {
  // The reference prints `callId` in places; requests have `callid`.
  const callId = text('callid') ?? text('callId')
  const [event, timestamp] = [text('event') ?? '', text('timestamp')]
  return {
    // A notify has no time, and a call has many of them: its bytes name it. Times are in whole seconds, and in a conference
    // each key that is pressed can be a menu's result.
    callbackId:
      timestamp === undefined
        ? undefined
        : composeCallbackId(callId, event, timestamp, text('menuResult', 'menuId'), text('menuResult', 'value')),
    type: event,
    callId,
    occurredAt: fromIsoTime(timestamp),
  }
})

const splitVoice2 = splitObject(({ text }, { header }) => ({
  callbackId: header('ce-id') || undefined,
  type: text('event') ?? header('ce-type') ?? '',
  callId: text('call', 'callId'),
  occurredAt: fromIsoTime(header('ce-time')),
}))

const splitVerification = splitObject(({ text }) => ({
  callbackId: composeCallbackId(text('id'), text('event') ?? '', text('status') ?? text('smsResult')),
  type: text('event') ?? '',
}))

/** What a Conversation callback is about is the name of the one member that is not about the delivery itself. */
const CONVERSATION_FACTS = new Set([
  'app_id',
  'project_id',
  'accepted_time',
  'event_time',
  'message_metadata',
  'correlation_id',
  'channel_metadata',
])
const splitConversation = splitObject(({ text, raw }, _message, value) => {
  const report = Object.entries(value).find(
    ([name, member]) => !CONVERSATION_FACTS.has(name) && typeof member === 'object' && member !== null,
  )
  const type = report?.[0] ?? ''
  return {
    callbackId: conversationId(type, text, raw),
    type,
    occurredAt: fromIsoTime(text('event_time')) ?? fromIsoTime(text('accepted_time')),
  }
})

/** What is said of a conversation once, without a time; all else can come again. */
const ONCE = new Set([
  'conversation_start_notification',
  'conversation_stop_notification',
  'conversation_delete_notification',
])

function conversationId(type: string, text: Content['text'], raw: Buffer): string | undefined {
  if (type === '') return undefined
  const own = text(type, 'id') ?? text(type, 'message_id') ?? text(type, 'event_id')
  if (own !== undefined) {
    return composeCallbackId(type, own, text(type, 'status'), channelOf(type, text), analysisHash(type, raw))
  }
  // Contacts and conversations hold their ids one level deeper, and most change more than once.
  const about = text(type, type.split('_', 1)[0]!, 'id') ?? text(type, 'contact_id') ?? text(type, 'conversation_id')
  if (about === undefined) return undefined
  if (ONCE.has(type)) return composeCallbackId(type, about)
  const which = text(type, 'request_id') ?? text('event_time') ?? text('accepted_time')
  if (which === undefined) return undefined
  const status = text(type, 'status') ?? text(type, 'capability_status')
  return composeCallbackId(type, about, status ?? '', text(type, 'channel') ?? '', which)
}

/** A message that the first channel did not take goes by another, and is submitted and reported there as well. */
function channelOf(type: string, text: Content['text']): string | undefined {
  const isOfChannel = type.endsWith('_delivery_report') || type === 'message_submit_notification'
  return isOfChannel ? text(type, 'channel_identity', 'channel') : undefined
}

/** Nothing says that all analyses of a message come together, and nothing but what they say tells them apart. */
function analysisHash(type: string, raw: Buffer): string | undefined {
  return type === 'smart_conversation_notification' ? hash('sha256', raw, 'hex') : undefined
}

const splitSms = splitObject(({ text, raw }) => ({
  callbackId: smsId(text, raw),
  type: text('type') ?? '',
  occurredAt: fromIsoTime(text('at')) ?? fromIsoTime(text('received_at')),
}))

function smsId(text: Content['text'], raw: Buffer): string | undefined {
  const batchId = text('batch_id')
  if (batchId === undefined) return text('id')
  // The report on a whole batch has a list of states, which its bytes stand for.
  const state = text('status') ?? hash('sha256', raw, 'hex')
  return composeCallbackId(text('type') ?? '', batchId, state, text('recipient') ?? '', text('at'))
}

/** Sinch calls a fallback URL, if there is one, instead of trying again. */
const voiceDelivery: DeliveryRule = { timeoutMs: 5_000, retryDelaysMs: [], isDelivered: is2xx }

const requestFacts = {
  signedText: documented(
    'The method, the base64 MD5 of the body, the content type, `x-timestamp:` with the value of that header, and the path of the URL, joined by line feeds; HMAC-SHA256, base64. The key is the secret decoded from base64.',
  ),
  covers: documented('The body, the path and the time.'),
  timeLimit: documented(
    '5 s for calls, which wait for the answer. A signature must not be too old, but no limit is given: set one with `toleranceSeconds`.',
  ),
} as const

/** Of Voice and Verification, which sign as the application. */
const applicationFacts = {
  ...requestFacts,
  headers: ['Authorization: application <key>:<signature>', 'x-timestamp'],
  secret: documented('The application secret, base64, beside the application key in the dashboard.'),
  account: documented('The application key, in the header, which is not signed.'),
}

const applicationSignature = requestSignature('application', '669e367e-6bba-48ab-af15-266871c28135')

const PUBLIC_URL_TRAP =
  'The path of the public URL is signed. Behind a proxy that changes paths, `PUBLIC_BASE_URL` must contain the path that the provider was given.'
const AUTHORIZATION_TRAP =
  'The signature uses the header Authorization, so you cannot require Basic authentication as well: use a secret URL.'

const voice: Scheme = {
  facts: {
    ...applicationFacts,
    title: 'Voice callbacks (incoming, answered, disconnected calls; menus; notifications)',
    callbackId: assumed(
      '`callid`, `event` and `timestamp`, which is in whole seconds, and `menuId` and `value` of a `menuResult`; there is no id of the delivery. Callbacks without `timestamp`, such as notify, are named by their bytes.',
    ),
    type: documented('`event`: ice, ace, dice, pie, notify.'),
    occurredAt: documented('`timestamp`.'),
    callId: documented('`callid`.'),
    retries: documented('None; a fallback URL is called instead.'),
    answer: documented(
      '2xx, with SVAML if a call waits (ice, ace, pie). By default the source answers `continue`, which ace and pie accept; for incoming calls set `answer` to your SVAML.',
    ),
    traps: [
      PUBLIC_URL_TRAP,
      AUTHORIZATION_TRAP,
      'An incoming call (ice) ends with an error message if its callback gets no suitable SVAML.',
    ],
  },
  methods: ['POST'],
  signature: applicationSignature,
  split: splitVoice,
  answer: { contentType: 'application/json', body: '{"action":{"name":"continue"}}' },
  delivery: voiceDelivery,
  samples: samples.voice,
}

const verification: Scheme = {
  facts: {
    ...applicationFacts,
    title: 'Verification callbacks (request, delivery of the SMS, result)',
    callbackId: assumed('`id`, which names the verification, with `event` and `status` or `smsResult`.'),
    type: documented('`event`: VerificationRequestEvent, VerificationSmsDeliveredEvent, VerificationResultEvent.'),
    occurredAt: unknown('None in the body: the time of receipt.'),
    callId: unknown('none'),
    timeLimit: unknown(
      'Not documented; 5 s are assumed, as for calls. No limit is given for the age of a signature either.',
    ),
    retries: unknown(),
    answer: documented(
      'A request event waits for `{"action":"allow"}` or `"deny"`; without an answer the verification is rejected, so set `answer`. A result event accepts any 2xx.',
    ),
    traps: [
      PUBLIC_URL_TRAP,
      AUTHORIZATION_TRAP,
      'A fixed answer cannot tell genuine verification requests from abusive ones. If that matters, let another service handle the request events.',
    ],
  },
  methods: ['POST'],
  signature: applicationSignature,
  split: splitVerification,
  delivery: voiceDelivery,
  samples: samples.verification,
}

const voice2: Scheme = {
  facts: {
    ...requestFacts,
    title: 'Voice 2.0 webhooks (preview)',
    headers: ['Authorization: service <id>:<signature>', 'x-timestamp', 'ce-id', 'ce-time'],
    secret: documented('The secret of the service, base64, under its call behaviour in the dashboard.'),
    callbackId: documented('`ce-id`, as in CloudEvents.'),
    type: documented('`event`, such as call.incoming.'),
    occurredAt: documented('`ce-time`.'),
    account: documented('The service id: in Authorization, in `ce-source` and in `call.serviceId`.'),
    callId: documented('`call.callId`.'),
    retries: unknown(),
    answer: assumed('2xx, with commands if a call waits: set `answer`.'),
    traps: [
      PUBLIC_URL_TRAP,
      AUTHORIZATION_TRAP,
      'The CloudEvents headers are not signed. Anybody who has seen a request can send it again under another `ce-id`; `toleranceSeconds` limits for how long.',
      'At times Sinch has not handed out the secrets of services. Until you have one, require Basic authentication or a secret URL.',
      'One page of the documentation has `application` before the signature; both words are accepted.',
    ],
  },
  methods: ['POST'],
  signature: requestSignature('service', 'a74b1566-0f18-4f8e-9c23-8e6b5df8fd3e'),
  split: splitVoice2,
  delivery: voiceDelivery,
  samples: samples.voice2,
}

const WEBHOOK_HEADERS = [
  CONVERSATION,
  `${CONVERSATION}-nonce`,
  `${CONVERSATION}-timestamp`,
  `${CONVERSATION}-algorithm`,
]

const conversation: Scheme = {
  facts: {
    title: 'Conversation webhooks',
    headers: WEBHOOK_HEADERS,
    signedText: documented('The body "." nonce "." timestamp; HMAC-SHA256 (`HmacSHA256`), base64.'),
    secret: documented('The secret that you gave the webhook, as text.'),
    covers: documented('The body, the nonce and the time.'),
    callbackId: assumed(
      'The name of what it reports, the id in it (of the message, event, contact or conversation), and its status. Delivery reports and `message_submit_notification` add `channel_identity.channel`, and `smart_conversation_notification` adds a hash of the body. Callbacks about a contact add `channel` and `request_id`, which is documented to identify duplicates. Without `request_id` they add `event_time`, else `accepted_time`, which is documented as when the API received the channel’s callback, and assumed to be the same when Sinch sends again. Without any of these, the bytes name the callback.',
    ),
    type: observed('The name of the member that holds the report, such as `message` or `message_delivery_report`.'),
    occurredAt: observed('`event_time`, else `accepted_time`.'),
    account: observed('`app_id` and `project_id`.'),
    callId: unknown('none'),
    timeLimit: unknown('Not documented, nor how long a signature is valid: set a limit with `toleranceSeconds`.'),
    retries: unknown(),
    answer: assumed('Any 2xx.'),
    traps: ['A webhook without a secret is not signed: give it one.'],
  },
  methods: ['POST'],
  signature: webhookSignature,
  split: splitConversation,
  delivery: { timeoutMs: 10_000, retryDelaysMs: [5_000, 10_000, 20_000], isDelivered: is2xx },
  samples: samples.conversation,
}

const sms: Scheme = {
  facts: {
    title: 'SMS callbacks (delivery reports, incoming messages)',
    headers: [...WEBHOOK_HEADERS, 'Authorization: Basic ..., each on request'],
    signedText: observed(
      'Nothing, until Sinch sets it up on request; then as in Conversation webhooks. Sinch’s own SDKs verify that; the reference of the SMS API does not mention it.',
    ),
    secret: documented(
      'On request, Sinch’s account managers set up a secret for signatures, by the README of its SDK for Python; by the reference Basic authentication, OAuth 2.0 or mutual TLS. A secret URL works without asking.',
    ),
    covers: observed(
      'The body, the nonce and the time, if `secrets` are set; else only that the sender knows the secret URL or the password.',
    ),
    callbackId: assumed(
      'For incoming messages `id`; for reports `type`, `batch_id`, `status`, `recipient` and `at`. A report on a whole batch has no status, so a hash of the report takes its place.',
    ),
    type: documented('`type`: mo_text, mo_binary, recipient_delivery_report_sms, delivery_report_sms.'),
    occurredAt: assumed('`at`; for incoming messages `received_at`.'),
    account: unknown('none'),
    callId: unknown('none'),
    timeLimit: unknown(),
    retries: documented(
      'Only after 5xx and 429: 5 s later, then doubling up to 81,920 s. Any other 4xx loses the callback.',
    ),
    answer: documented('Any 2xx.'),
    traps: [
      'With `secrets`, unsigned callbacks are refused, even with a secret URL. Set them once Sinch has said that it signs, or set `allowUnsigned` until then.',
      'A 401 or 404 is never retried. Set up Ringback first and the URL at Sinch afterwards, and use shadow mode when you change credentials.',
    ],
  },
  methods: ['POST'],
  signature: webhookSignature,
  split: splitSms,
  delivery: {
    timeoutMs: 10_000,
    retryDelaysMs: [5_000, 10_000, 20_000, 40_000],
    isDelivered: is2xx,
    isRetried: (status) => status === 429 || status >= 500,
  },
  samples: samples.sms,
}

/** Sources for Sinch: the option `scheme` says which of its five kinds of callbacks come to the URL. */
export const sinch = definePreset({
  name: 'sinch',
  title: 'Sinch',
  schemes: { voice, verification, voice2, conversation, sms },
  sourceAddresses: unknown(),
  setUp: [
    'Configure one source for each product, with its `scheme`.',
    'Voice, Verification: copy the application secret from the dashboard into the variable that `secrets` names. Conversation: choose a secret, and give it to the webhook too. SMS: choose a secret URL (`urlTokens`), or ask Sinch for signatures and set their secret.',
    'Set `PUBLIC_BASE_URL` to the beginning of the callback URL, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the callback URL; for SMS append `/<token>`.',
  ],
  references: [
    'developers.sinch.com/docs/voice/api-reference/authentication/callback-signed-request',
    'developers.sinch.com/docs/voice-2.0/api-reference/webhook-signature',
    'developers.sinch.com/docs/verification/api-reference/authentication/callback-signed-request',
    'developers.sinch.com/docs/conversation/callbacks',
    'developers.sinch.com/docs/sms/api-reference/sms/webhooks',
    'github.com/sinch/sinch-sdk-python, examples/webhooks/README.md',
    'npmjs.com/package/@sinch/sms, SmsCallbackWebhooks',
  ],
})
