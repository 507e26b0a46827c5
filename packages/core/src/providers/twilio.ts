import { hash } from 'node:crypto'
import { parse as parseQuery, stringify as stringifyQuery } from 'node:querystring'
import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { callbackElements, firstText, jsonContent, outgoingMessage } from './message.ts'
import type { Content, Fields, Json, Message } from './message.ts'
import { digest, fromBase64, fromIsoTime, fromUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, observed, unknown } from './provider.ts'
import type { CallbackFound, DeliveryRule, OutgoingRequest, Proof, RejectReason, Signature } from './provider.ts'
import samples from './samples/twilio.json' with { type: 'json' }
import { definePreset } from './source.ts'

// Twilio: a signature over the URL with the form's fields behind it, or with a hash of the body inside it. SignalWire
// signs in the same way and calls its fields the same. Source: Twilio's page on webhook security, and its Node library.

const TOKEN_HEADER = 'i-twilio-idempotency-token'
const BODY_HASH = 'bodySHA256'

type Signed = Pick<Message, 'method' | 'body' | 'query' | 'form'>

/** Which of a field's values are signed, and in which order. */
type SignedValues = (values: string[]) => string[]

type SignedContent = { text: string } & Pick<Proof, 'covers' | 'problem' | 'hashes'>

/** What is signed behind the URL, and what is covered by that; or why the request cannot be read. */
function signedContent(
  { method, body, query, form }: Signed,
  signedValues: SignedValues,
): SignedContent | RejectReason {
  const bodyHash = query.find(([name]) => name === BODY_HASH)?.[1]
  if (bodyHash !== undefined && bodyHash !== hash('sha256', body, 'hex')) return withWrongHash(bodyHash, body)
  if (method === 'GET') return { text: '', covers: 'url' }
  if (bodyHash !== undefined) return { text: '', covers: 'body' }
  if (typeof form === 'string') return form
  // The URL alone is signed here: whoever saw one such signature could put it on any JSON.
  if (form.length === 0 && body.length > 0) return withWrongHash('', body)
  return { text: gluedFields(form, signedValues), covers: 'body' }
}

function withWrongHash(presented: string, body: Buffer): SignedContent {
  const bodyHash = { name: BODY_HASH, presented, expected: hash('sha256', body, 'hex') }
  return { text: '', covers: 'body', problem: 'body_hash_mismatch', hashes: [bodyHash] }
}

/** Names and values without anything between them, sorted by name in the order of UTF-16 code units. */
function gluedFields(fields: Fields, signedValues: SignedValues): string {
  const values = Map.groupBy(fields, ([name]) => name)
  return [...values.keys()]
    .toSorted()
    .flatMap((name) => signedValues(values.get(name)!.map(([, value]) => value)).map((value) => name + value))
    .join('')
}

/** Each different value once, sorted: as Twilio itself does. */
export const eachOnceSorted: SignedValues = (values) => [...new Set(values)].toSorted()

const AUTHORITY = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*)/i
const PORT = /:[^:\]]*$/

/**
 * The spellings of a URL that may have been signed, likeliest first: without any port and with one, each as it came, then
 * as URL parsers write it, then with its query written anew. Twilio's own library tries the same.
 */
export function spellingsOf(url: string): string[] {
  const parsed = URL.parse(url)?.href
  const normalized = parsed === undefined ? [] : portsOf(parsed)
  return [...new Set([...portsOf(url), ...normalized, ...normalized.map(withRewrittenQuery)])]
}

function portsOf(url: string): string[] {
  const [prefix, scheme = '', authority = ''] = AUTHORITY.exec(url) ?? []
  if (prefix === undefined) return [url]
  const host = authority.slice(authority.lastIndexOf('@') + 1)
  const port = PORT.exec(host)?.[0] ?? ''
  const withoutPort = scheme + authority.slice(0, authority.length - port.length)
  const rest = url.slice(prefix.length)
  return [withoutPort + rest, withoutPort + (port || (scheme.toLowerCase() === 'https://' ? ':443' : ':80')) + rest]
}

function withRewrittenQuery(url: string): string {
  const at = url.indexOf('?')
  return at === -1 || at === url.length - 1
    ? url
    : `${url.slice(0, at)}?${stringifyQuery(parseQuery(url.slice(at + 1)))}`
}

/**
 * Twilio's signature, in the header of that name. Others who sign like it may take other values of a repeated field: each of
 * `signedValues` is accepted, and the first one signs.
 */
export function urlSignature(
  headerName: string,
  signedValues: [SignedValues, ...SignedValues[]] = [eachOnceSorted],
): Signature {
  return {
    coversUrl: true,
    coversQuery: true,
    // Looks like a credential and is none.
    headers: [TOKEN_HEADER],
    proofs(message) {
      const text = message.header(headerName)
      if (text === undefined || text === '') return 'signature_missing'
      const signature = fromBase64(text)
      if (signature.length === 0) return 'signature_unreadable'
      const contents = new Map<string, Omit<SignedContent, 'text'>>()
      for (const signed of signedValues) {
        const content = signedContent(message, signed)
        if (typeof content === 'string') return content
        const { text: signedText, ...claimed } = content
        contents.set(signedText, claimed)
      }
      return spellingsOf(message.url).flatMap((url) =>
        Array.from(contents, ([signedText, claimed]) => ({
          algorithm: 'hmac-sha1' as const,
          signed: Buffer.from(url + signedText),
          signature,
          encoding: 'base64' as const,
          ...claimed,
        })),
      )
    },
    sign(request, secret, at) {
      const url = hasForm(request) || request.body.length === 0 ? request.url : withBodyHash(request)
      const content = signedContent(outgoingMessage({ ...request, url }, at), signedValues[0])
      const text = url + (typeof content === 'string' ? '' : content.text)
      const signature = digest('hmac-sha1', Buffer.from(secret), text).toString('base64')
      return { ...request, url, headers: { ...request.headers, [headerName]: signature } }
    },
  }
}

function hasForm({ headers }: OutgoingRequest): boolean {
  return headers['content-type']?.startsWith('application/x-www-form-urlencoded') ?? false
}

function withBodyHash({ url, body }: OutgoingRequest): string {
  return `${url}${url.includes('?') ? '&' : '?'}${BODY_HASH}=${hash('sha256', body, 'hex')}`
}

type Text = Content['text']

/** Statuses after which a call has no other. */
export const FINAL_CALL_STATUSES = ['completed', 'busy', 'failed', 'no-answer', 'canceled']

/**
 * Things that calls have, told apart by their own ids, what came of a <Dial> (after a conference without an id), of a
 * <Record> (whose id is not documented), of a <Refer> (at times without its status), of a <VirtualAgent>, of a session of
 * <ConversationRelay> and of a <Pay>, the digits that TeXML reports, what a <Gather> took, perhaps as the caller hung up, and
 * speech while it is heard, which each <Gather> numbers anew: what is said of them is not the call's own status.
 */
const PARTS_OF_CALLS = [
  'DialCallSid',
  'DialCallStatus',
  'RecordingSid',
  'RecordingUrl',
  'ReferCallStatus',
  'ReferSipResponseCode',
  'VirtualAgentStatus',
  'TranscriptionSid',
  'QueueSid',
  'StreamSid',
  'SessionId',
  'PaymentSid',
  'Result',
  'Digit',
  'Digits',
  'SpeechResult',
  'StableSpeechResult',
  'UnstableSpeechResult',
]

/**
 * A name from the fields that say what happened to what, or undefined where the same fields can come twice and mean two
 * things: a call in progress asks for its next instructions again and again.
 */
function nameByFields(text: Text): string | undefined {
  const sequence = text('SequenceNumber')
  const messageStatus = text('MessageStatus') ?? text('SmsStatus')
  const messageId = text('MessageSid') ?? text('SmsSid') ?? text('SmsMessageSid')
  if (messageStatus !== undefined && messageId !== undefined)
    return composeCallbackId(messageId, messageStatus, sequence)
  const streamId = text('StreamSid')
  if (streamId !== undefined && text('StreamEvent') !== undefined) {
    // A stream can have several errors, which only their times tell apart.
    return composeCallbackId(streamId, text('StreamEvent'), sequence ?? text('Timestamp'))
  }
  const transcriptionId = text('TranscriptionSid')
  const transcriptionSequence = text('SequenceId')
  if (transcriptionId !== undefined && text('TranscriptionEvent') !== undefined) {
    if (transcriptionSequence === undefined) return undefined
    return composeCallbackId(transcriptionId, text('TranscriptionEvent'), transcriptionSequence)
  }
  if (transcriptionId !== undefined && text('TranscriptionStatus') !== undefined) {
    return composeCallbackId(transcriptionId, text('TranscriptionStatus'))
  }
  const recordingId = text('RecordingSid')
  if (recordingId !== undefined && text('RecordingStatus') !== undefined) {
    return composeCallbackId(recordingId, text('RecordingStatus'))
  }
  const conferenceId = text('ConferenceSid')
  if (conferenceId !== undefined) {
    if (sequence === undefined) return undefined
    // Whether TeXML counts for the conference or for each call in it is not documented.
    return composeCallbackId(conferenceId, text('StatusCallbackEvent'), text('CallSid'), sequence)
  }
  if (debuggerType(text) !== undefined) return composeCallbackId(text('Sid'))
  return nameByCall(text, sequence)
}

function nameByCall(text: Text, sequence: string | undefined): string | undefined {
  const [callId, status] = [text('CallSid'), text('CallStatus')]
  if (callId === undefined || status === undefined) return undefined
  const isNamed = sequence !== undefined || FINAL_CALL_STATUSES.includes(status)
  if (!isNamed || PARTS_OF_CALLS.some((name) => text(name) !== undefined)) return undefined
  return composeCallbackId(callId, text('StatusCallbackEvent'), status, sequence)
}

const TYPE_FIELDS = [
  'StatusCallbackEvent',
  'MessageStatus',
  'SmsStatus',
  'CallStatus',
  'EventType',
  'RecordingStatus',
  'TranscriptionEvent',
  'TranscriptionStatus',
  'StreamEvent',
  'SiprecEvent',
  'type',
  'event_type',
]

function typeOf(text: Text): string {
  return firstText(text, TYPE_FIELDS) ?? debuggerType(text) ?? ''
}

/** What the debugger reports has no status, only a level. */
function debuggerType(text: Text): string | undefined {
  const level = text('Level')
  return level === undefined || text('PayloadType') === undefined ? undefined : `debugger.${level.toLowerCase()}`
}

const MAIL_TIME = /^(?:[A-Z][a-z]{2}, )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d) (?:([+-]\d{4})|GMT|UTC)$/
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/**
 * Calls say "Mon, 15 Aug 2005 15:52:01 +0000", transcriptions ISO 8601, TaskRouter seconds since 1970, and TeXML also
 * "2021-04-28 21:51:18.731479Z".
 */
function timeOf(text: Text): Date | undefined {
  const time = text('Timestamp') ?? text('time')
  if (time === undefined) return undefined
  const parts = MAIL_TIME.exec(time)
  if (parts === null) return fromIsoTime(time.replace(' ', 'T')) ?? fromUnixSeconds(time)
  const [, day = '', name = '', year, clock, zone = 'Z'] = parts
  const month = String(MONTHS.indexOf(name) + 1)
  return fromIsoTime(`${year}-${month.padStart(2, '0')}-${day.padStart(2, '0')}T${clock}${zone}`)
}

/** Takes a request of Twilio's shape apart. `token` is what its sender itself calls the request, if it does. */
export function splitForm({ content, json }: Message, token?: string): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  if (payload === undefined && typeof json !== 'string') return splitJson(json, token)
  return [
    {
      kind: 'found',
      callbackId: token ?? nameByFields(text),
      type: typeOf(text),
      callId: text('CallSid'),
      occurredAt: timeOf(text),
      raw,
      payload,
    },
  ]
}

/** An object, or Event Streams' array of CloudEvents. */
function splitJson(json: Json, token: string | undefined): CallbackFound[] | RejectReason {
  const events = callbackElements(json)
  if (events === undefined) return [jsonCallback(json, token)]
  return typeof events === 'string' ? events : events.map((event) => jsonCallback(event, undefined))
}

function jsonCallback(json: Json, token: string | undefined): CallbackFound {
  const { text, raw } = jsonContent(json)
  if (!isObject(json.value)) return { kind: 'unreadable', reason: 'unreadable_body', raw }
  return {
    kind: 'found',
    callbackId: (text('specversion') && text('id')) || (token ?? nameByFields(text)),
    type: typeOf(text),
    callId: text('CallSid'),
    occurredAt: timeOf(text),
    raw,
  }
}

/** TwiML without instructions: no reply to a message; ignored where only a status is reported. */
export const EMPTY_TWIML = {
  contentType: 'text/xml',
  body: '<?xml version="1.0" encoding="UTF-8"?><Response/>',
}

/** Errors are not tried again, only connections that could not be made. */
const delivery: DeliveryRule = {
  timeoutMs: 15_000,
  retryDelaysMs: [1_000],
  isDelivered: is2xx,
  isRetried: () => false,
}

/** Sources for all of Twilio's webhooks. It signs the URL too, so where that begins must be known. */
export const twilio = definePreset({
  name: 'twilio',
  title: 'Twilio',
  schemes: {
    webhook: {
      facts: {
        title: 'All of Twilio’s webhooks: voice, messaging, Conversations, TaskRouter, Event Streams, the debugger',
        headers: ['X-Twilio-Signature', 'I-Twilio-Idempotency-Token'],
        signedText: documented(
          'The URL as Twilio called it, query included, then each form field as name and decoded value, sorted by name, with nothing in between; HMAC-SHA1, base64. For JSON only the URL, which then contains `bodySHA256`, the hex SHA-256 of the body. Each distinct value of a repeated field counts once, sorted, as in Twilio’s library. As there, the URL is tried with and without the port.',
        ),
        secret: documented('The account’s primary Auth Token, from the console; a subaccount signs with its own.'),
        covers: documented('URL and form fields, or URL and the body’s hash; for GET the URL with its query.'),
        callbackId: observed(
          '`I-Twilio-Idempotency-Token`, which is the same for all repetitions but not signed; without it `MessageSid` and status, or `CallSid`, status and `SequenceNumber`, and the like; the `Sid` of what the debugger reports. A request for instructions, which may come again with equal fields, is named by its bytes; an Event Streams event by its `id`.',
        ),
        type: documented(
          'the first of `StatusCallbackEvent`, `MessageStatus`, `SmsStatus` (`received` for an incoming message) and `CallStatus`; then `EventType` and the statuses of recordings, transcriptions, streams and SIPREC; in JSON `type`, or `event_type` of Voice Intelligence. What the debugger reports is `debugger.` and its `Level`: `debugger.error`, `debugger.warning`.',
        ),
        occurredAt: assumed(
          '`Timestamp`, which voice status callbacks and the debugger have and messages do not; in JSON `time`.',
        ),
        account: documented('`AccountSid` in the fields; Ringback’s account is the one whose Auth Token verified it.'),
        callId: documented('`CallSid`'),
        timeLimit: documented('5 s to connect, 15 s to read, 15 s in all.'),
        retries: documented(
          'Once, if no connection can be made. The URL’s fragment can ask for up to 5 times, and after errors too, such as `#rc=3&rp=all`. Then the fallback URL, if there is one.',
        ),
        answer: assumed(
          'Any 2xx. TwiML without instructions sends no reply to a message and is ignored for a status callback; if a call waits for instructions, it ends the call.',
        ),
        traps: [
          'Do not use Ringback for a voice URL that must keep a call alive, unless `answer` has TwiML that does, such as `<Response><Pause length="60"/></Response>`; a messaging URL takes no `<Pause>`.',
          'During a change of Auth Token, Twilio signs with the old one until the new one is made primary: list both in `secrets`.',
          'JSON whose URL has no `bodySHA256` is refused, because its body is not signed.',
          'The signed text has no separators between fields and no time. Anybody who has seen a signed request can repeat it, and can move the borders between its fields. Use HTTPS.',
          'A URL fragment that sets retries is not part of the request, and is assumed not to be signed.',
        ],
      },
      methods: ['POST', 'GET'],
      signature: urlSignature('x-twilio-signature'),
      split: (message) => splitForm(message, message.header(TOKEN_HEADER) || undefined),
      answer: EMPTY_TWIML,
      delivery,
      callEnd: { field: 'CallStatus', values: FINAL_CALL_STATUSES },
      samples,
    },
  },
  sourceAddresses: unknown('Twilio advises against address lists, and signs instead'),
  setUp: [
    'Set `PUBLIC_BASE_URL` to the beginning of the URL that Twilio calls, exactly as you will enter it there: it is signed.',
    'Copy the primary Auth Token from the Twilio console into the variable that `secrets` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the status callback URL, or as the URL for incoming messages.',
  ],
  references: [
    'twilio.com/docs/usage/webhooks/webhooks-security',
    'twilio.com/docs/usage/webhooks/webhooks-connection-overrides',
    'npm twilio 6.2.0, lib/webhooks/webhooks.js',
  ],
})
