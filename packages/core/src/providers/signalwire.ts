import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { firstText, jsonAt, jsonContent } from './message.ts'
import type { Content, Json, Message } from './message.ts'
import { digest, fromHex, fromIsoTime } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, DeliveryRule, RejectReason, SchemeFacts, Signature } from './provider.ts'
import samples from './samples/signalwire.json' with { type: 'json' }
import { definePreset } from './source.ts'
import { EMPTY_TWIML, eachOnceSorted, spellingsOf, splitForm, urlSignature } from './twilio.ts'

// SignalWire: one header with two meanings. Its older interface is Twilio's, signature and all; its newer one signs URL
// and raw body, in hex. Source: SignalWire's guide to webhook security, the documentation of its own validators, and for
// forms its Node library.

const HEADER = 'x-signalwire-signature'

const bodySignature: Signature = {
  coversUrl: true,
  coversQuery: true,
  proofs({ url, body, header }) {
    const text = header(HEADER)
    if (text === undefined || text === '') return 'signature_missing'
    const signature = fromHex(text)
    if (signature.length === 0) return 'signature_unreadable'
    return spellingsOf(url).map((spelling) => ({
      algorithm: 'hmac-sha1',
      signed: Buffer.concat([Buffer.from(spelling), body]),
      signature,
      encoding: 'hex',
      covers: 'body',
    }))
  },
  sign(request, secret) {
    const signed = Buffer.concat([Buffer.from(request.url), request.body])
    const signature = digest('hmac-sha1', Buffer.from(secret), signed).toString('hex')
    return { ...request, headers: { ...request.headers, [HEADER]: signature } }
  },
}

/** The last two are those of what an AI agent posts and of a message's status. */
const TYPE_FIELDS = ['event_type', 'event', 'action', 'status']

/** Anything that is no JSON object is read as a form: the same signature may come with one. */
function split(message: Message): CallbackFound[] | RejectReason {
  const { content, json } = message
  if (typeof content === 'string' || content.payload !== undefined || typeof json === 'string')
    return splitForm(message)
  if (!isObject(json.value)) return 'unreadable_body'
  const { text, raw } = jsonContent(json)
  const type = firstText(text, TYPE_FIELDS) ?? ''
  const callId = text('params', 'call_id') ?? text('call_id') ?? text('call', 'call_id')
  return [{ kind: 'found', callbackId: nameOf(text, type), type, callId, occurredAt: timeOf(json), raw }]
}

/** Each state of a call or message comes once. Nothing is known about anything else, so its bytes name it. */
function nameOf(text: Content['text'], type: string): string | undefined {
  const [messageId, messageState] = [text('params', 'message_id'), text('params', 'message_state')]
  if (messageId !== undefined && messageState !== undefined) return composeCallbackId(messageId, type, messageState)
  const [callId, callState] = [text('params', 'call_id'), text('params', 'call_state')]
  if (callId === undefined || callState === undefined || type !== 'calling.call.state') return undefined
  return composeCallbackId(callId, type, callState)
}

/** Seconds since 1970, with a fraction; a message's status and a 10DLC registration have ISO 8601. */
function timeOf(json: Json): Date | undefined {
  const seconds = jsonAt(json, 'timestamp')
  if (typeof seconds === 'number') return seconds > 0 && seconds < 1e11 ? new Date(seconds * 1000) : undefined
  const { text } = jsonContent(json)
  return fromIsoTime(text('timestamp') ?? text('event_at'))
}

const delivery: DeliveryRule = {
  timeoutMs: 15_000,
  retryDelaysMs: [],
  isDelivered: is2xx,
}

const commonFacts = {
  headers: ['X-SignalWire-Signature'],
  secret: documented('The project’s signing key, under API Credentials in the dashboard.'),
  account: assumed('`AccountSid` or `project_id` in the body; Ringback’s account is the one whose key verified it.'),
  timeLimit: unknown(),
  retries: unknown(),
} satisfies Partial<SchemeFacts>

/** Sources for SignalWire: the option `scheme` says whether forms (`compatibility`) or JSON come to the URL. */
export const signalwire = definePreset({
  name: 'signalwire',
  title: 'SignalWire',
  schemes: {
    compatibility: {
      facts: {
        ...commonFacts,
        title: 'cXML and the Compatibility API: forms like Twilio’s',
        signedText: documented(
          'As with Twilio: the URL, then each form field as name and value, sorted by name; HMAC-SHA1, base64; for JSON only the URL, which contains `bodySHA256`. For a repeated field, SignalWire’s library takes every value in the order received, and Twilio’s takes each distinct value once, sorted. Both are accepted. The URL is tried with and without the port, as in SignalWire’s library.',
        ),
        covers: documented('URL and form fields, or URL and the body’s hash; for GET the URL with its query.'),
        callbackId: assumed(
          '`MessageSid` and status, or `CallSid`, status and `SequenceNumber`; a request for instructions is named by its bytes.',
        ),
        type: assumed('`StatusCallbackEvent`, `MessageStatus`, `SmsStatus` or `CallStatus`, as with Twilio.'),
        occurredAt: assumed('`Timestamp`, if there is one.'),
        callId: assumed('`CallSid`'),
        answer: assumed(
          'cXML without instructions. It sends no reply to a message and is ignored for a status callback; if a call waits for instructions, it ends the call.',
        ),
        traps: [
          'On JSON webhooks the same header carries the other signature, in hex: give those a source with `scheme: "json"`.',
          'A reset of the signing key takes about a minute to take effect: list the old and the new key in `secrets`.',
          'A URL on which a call waits for instructions needs an `answer` that keeps the call alive.',
        ],
      },
      methods: ['POST', 'GET'],
      signature: urlSignature(HEADER, [(values) => values, eachOnceSorted]),
      split: (message) => splitForm(message),
      answer: EMPTY_TWIML,
      delivery,
      samples: samples.compatibility,
    },
    json: {
      facts: {
        ...commonFacts,
        title: 'RELAY and SWML: JSON',
        signedText: documented(
          'The URL, then the raw body; HMAC-SHA1, hex. The URL is assumed to come with or without its port, as for the other scheme.',
        ),
        covers: documented('the URL and the body'),
        callbackId: assumed(
          'Id and state of the call or message in `params`. No callback id is documented, so anything else is named by its bytes.',
        ),
        type: documented(
          '`event_type`; without it `action` of what an AI agent posts, or `status` of a message. `event` is assumed.',
        ),
        occurredAt: documented('`timestamp`, in seconds or ISO 8601; `event_at` of 10DLC'),
        callId: assumed('`call_id` in `params`, in `call`, or at the top level'),
        answer: assumed('any 2xx'),
        traps: [
          'On cXML webhooks the same header carries the other signature, in base64: give those a source with `scheme: "compatibility"`.',
          'A URL that must deliver SWML needs an `answer` that is SWML.',
        ],
      },
      methods: ['POST'],
      signature: bodySignature,
      split,
      delivery,
      samples: samples.json,
    },
  },
  sourceAddresses: unknown(),
  setUp: [
    'Set `PUBLIC_BASE_URL` to the beginning of the URL that SignalWire calls, exactly as you will enter it there: it is signed.',
    'Copy the signing key from API Credentials into the variable that `secrets` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the status callback or webhook URL.',
  ],
  references: [
    'developer.signalwire.com/guides/webhook-security',
    'metacpan.org/pod/SignalWire::Security::WebhookValidator',
    'npm @signalwire/compatibility-api 3.2.0, lib/webhooks/webhooks.js',
  ],
})
