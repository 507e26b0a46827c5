import { randomBytes } from 'node:crypto'
import { isObject } from '../is-object.ts'
import { composeCallbackId } from './callback-id.ts'
import { callbackElements, firstText, jsonAt, jsonContent, queryOf } from './message.ts'
import type { Content, Fields, Json, Message } from './message.ts'
import { digest, fromBase64, fromHex, fromIsoTime, fromUnixSeconds, toUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type {
  CallbackFound,
  DeliveryRule,
  OutgoingRequest,
  Proof,
  RejectReason,
  Sample,
  Scheme,
  SchemeFacts,
  Signature,
} from './provider.ts'
import samples from './samples/vobiz.json' with { type: 'json' }
import { definePreset } from './source.ts'

// Vobiz: seven kinds of requests, each signed in its own way, and one header name, X-Vobiz-Signature, that means
// something else in five of them. So the kind is configured, never guessed. Voice callbacks sign the URL and a nonce and
// leave the body unprotected; the others sign the body. Source: Vobiz's documentation in two generations that contradict
// each other, the vendor's own receiver, and captured traffic.

// How requests of all kinds are read.

type Text = Content['text']

interface Named {
  callbackId: string | undefined
  type: string
  callId?: string | undefined
  occurredAt?: Date | undefined
}

/** A split for requests that are one JSON object each. */
function splitObject(read: (text: Text, message: Message, json: Json) => Named): Scheme['split'] {
  return (message) => {
    const { json } = message
    if (typeof json === 'string') return json
    return isObject(json.value) ? [found(json, read(jsonContent(json).text, message, json))] : 'unreadable_body'
  }
}

/** Events of unknown types are kept. Only an empty object is no event. */
function found({ value, raw }: Json, named: Named): CallbackFound {
  return Object.keys(value as object).length === 0
    ? { kind: 'unreadable', reason: 'callback_id_missing', raw }
    : { kind: 'found', ...named, raw }
}

// Voice and recordings: signed URLs.

/** The fields that tell apart what one call reports under one event, as far as a callback has them. */
const TELLING_FIELDS = ['DialBLegUUID', 'ConferenceUUID', 'ConferenceMemberID', 'RecordingID', 'StreamID']

/** What a call reports once, so that event and call are its name. */
const ONCE = new Set(['CallInitiated', 'Ring', 'StartApp', 'MachineDetection', 'Hangup'])

/** Of what a caller pressed or said, or failed to in time. */
const ENTRY_FIELDS = ['InputType', 'Digits', 'Speech']

function splitVoice({ content }: Message): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  const callId = text('CallUUID')
  const type = voiceType(text)
  const telling = TELLING_FIELDS.map((name) => text(name))
  // One stream reports every piece of audio that was played.
  const ofStream = text('StreamID') === undefined ? [] : [text('Name'), text('Timestamp')]
  if ([callId, type, ...telling].every((value) => value === undefined)) {
    return [{ kind: 'unreadable', reason: 'callback_id_missing', raw }]
  }
  const isNamed =
    callId !== undefined &&
    !isEntry(type, text) &&
    (ONCE.has(type ?? '') || telling.some((value) => value !== undefined))
  const callbackId = isNamed ? composeCallbackId(type, callId, ...telling, ...ofStream) : undefined
  return [{ kind: 'found', callbackId, type: type ?? '', callId, occurredAt: voiceTime(type, text), raw, payload }]
}

/** The same keys can be pressed again in a call, by the same leg or member. A recording has the key that ended it. */
function isEntry(type: string | undefined, text: Text): boolean {
  const isPressed = type === 'DialDigitsMatch' || type === 'ConferenceDigitsMatch'
  return isPressed || (text('RecordingID') === undefined && firstText(text, ENTRY_FIELDS) !== undefined)
}

/** Of the requests that are documented, only the last of a Dial might come without `Event`, as it does with Plivo. */
function voiceType(text: Text): string | undefined {
  return text('Event') ?? (text('DialStatus') === undefined ? undefined : 'DialAction')
}

/**
 * `StartTime`, `AnswerTime`, `EndTime` and a stream's `Timestamp` are in the console's time zone and do not say which, so
 * they are no times. `SessionStart` is in UTC, but it is when the call began, whatever the event.
 */
function voiceTime(type: string | undefined, text: Text): Date | undefined {
  const documentedTime = fromIsoTime(text('timestamp'))
  if (documentedTime !== undefined) return documentedTime
  if (type === 'CallInitiated') return fromUtc(text('SessionStart'))
  if (type === 'Record') return fromMilliseconds(text('RecordingStartMs'))
  if (type === 'RecordStop') return fromMilliseconds(text('RecordingEndMs'))
  return undefined
}

/** "2026-01-01 00:00:00.130248", known to be UTC. */
function fromUtc(text: string | undefined): Date | undefined {
  return text === undefined ? undefined : fromIsoTime(`${text.replace(' ', 'T')}Z`)
}

/** Milliseconds since 1970, of this century: a position within the recording would be far smaller. */
function fromMilliseconds(text: string | undefined): Date | undefined {
  return text !== undefined && /^\d{13}$/.test(text) ? new Date(Number(text)) : undefined
}

function splitRecording({ content }: Message): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  const isTranscription = Object.keys(JSON.parse(payload ?? raw.toString())).some((name) =>
    /^transcription/i.test(name),
  )
  const recordingId = firstText(text, ['RecordingID', 'recording_id'])
  const callId = firstText(text, ['CallUUID', 'call_uuid'])
  const event = firstText(text, ['Event', 'event'])
  if (recordingId === undefined && callId === undefined && event === undefined) {
    return [{ kind: 'unreadable', reason: 'callback_id_missing', raw }]
  }
  // Both URLs report one recording under one id.
  const type = event ?? (isTranscription ? 'transcription' : 'recording')
  const callbackId = recordingId === undefined ? undefined : composeCallbackId(type, recordingId)
  return [{ kind: 'found', callbackId, type, callId, occurredAt: fromIsoTime(text('timestamp')), raw, payload }]
}

/**
 * Nonces were seen to be 20 digits. Base64, times and the like are accepted too, but no ".", which separates the URL from
 * the nonce: the end of a URL with a "." in it could pass for the beginning of another nonce.
 */
const V3_NONCE = /^[\w+/=:-]{1,128}$/
/**
 * Nothing separates the URL from such a nonce: with a "." in it, a V3 signature would be a V2 signature with another nonce,
 * and with a "/" in it, the last parts of a URL's path could pass for the beginning of a nonce.
 */
const V2_NONCE = /^[\w-]{1,128}$/

const V3 = { nonceHeader: 'x-vobiz-signature-v3-nonce', separator: '.', nonces: V3_NONCE }
const V2 = { nonceHeader: 'x-vobiz-signature-v2-nonce', separator: '', nonces: V2_NONCE }

/** Each signature with its nonce, the strongest first; those with -MA- are made with the parent account's token. */
const NONCE_SIGNATURES = [
  { header: 'x-vobiz-signature-v3', ...V3 },
  { header: 'x-vobiz-signature-ma-v3', ...V3 },
  { header: 'x-vobiz-signature-v2', ...V2 },
  { header: 'x-vobiz-signature-ma-v2', ...V2 },
]

/** A header may list several; each costs some HMACs, and a hostile one could hold thousands. */
const MAX_SIGNATURES = 4
/** V1 goes over all fields, once for each address. Voice callbacks have 1 to 2 KiB. */
const MAX_V1_BYTES = 64 * 1024

function voiceProofs(message: Message): Proof[] | RejectReason {
  const addresses = addressesOf(message)
  const proofs: Proof[] = []
  let reason: RejectReason = 'signature_missing'
  for (const { header, nonceHeader, separator, nonces } of NONCE_SIGNATURES) {
    const value = message.header(header)
    // An empty header counts as none, as for the vendor's own receiver.
    if (!value) continue
    const nonce = message.header(nonceHeader)
    if (nonce === undefined || nonce === '') {
      if (reason === 'signature_missing') reason = 'nonce_missing'
      continue
    }
    reason = 'signature_unreadable'
    if (!nonces.test(nonce)) continue
    for (const signature of signaturesIn(value)) {
      for (const address of addresses) {
        const signed = Buffer.from(address + separator + nonce)
        proofs.push({ algorithm: 'hmac-sha256', signed, signature, encoding: 'base64', covers: 'url', nonce })
      }
    }
  }
  const bare = message.header('x-vobiz-signature')
  if (bare) {
    if (reason === 'signature_missing') reason = 'signature_unreadable'
    proofs.push(...fieldProofs(message, addresses, bare))
  }
  return proofs.length > 0 ? proofs : reason
}

function signaturesIn(header: string): Buffer[] {
  return header
    .split(',', MAX_SIGNATURES)
    .map((text) => fromBase64(text.trim()))
    .filter((signature) => signature.length === 32)
}

/**
 * The oldest signature, over address and fields. Its signed text is not documented, and assumed to be Plivo's. Its length
 * tells SHA-1, which is documented and was seen, from SHA-256, which was reported once. Although the fields are signed, it
 * counts as a proof of the URL only: without separators, the signed text could be split into other fields.
 */
function fieldProofs(message: Message, addresses: string[], header: string): Proof[] {
  const signature = fromBase64(header.trim())
  if (signature.length !== 20 && signature.length !== 32) return []
  if (message.body.length > MAX_V1_BYTES) return []
  const algorithm = signature.length === 20 ? 'hmac-sha1' : 'hmac-sha256'
  const isGet = message.method === 'GET'
  const named = isGet ? message.query : typeof message.form === 'string' ? [] : message.form
  // JSON has no fields to sign: a signature over the bare address would fit any body.
  if (!isGet && named.length === 0 && message.body.length > 0) return []
  const fields = gluedFields(named)
  const query = queryOf(message.url)
  return addresses
    .flatMap((address) => (isGet || query === '' ? [address] : [address, `${address}?${query}`]))
    .map((address) => ({
      algorithm,
      signed: Buffer.from(address + fields),
      signature,
      encoding: 'base64',
      covers: 'url',
    }))
}

function gluedFields(fields: Fields): string {
  return fields
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([name, value]) => name + value)
    .join('')
}

const ADDRESS = /^(https?):\/\/(?:([^/?#@]*)@)?([^/?#@:[\]]+|\[[^\]/?#]*\])(:\d{1,5})?(\/[^?#]*)?(?:[?#]|$)/i

/**
 * The addresses that Vobiz may have signed, without query. Whether it keeps a user name and password, the default port
 * and capital letters in the host is not documented, and its own samples differ.
 */
function addressesOf({ url, header }: Pick<Message, 'url' | 'header'>): string[] {
  const match = ADDRESS.exec(url)
  if (match === null) return [withoutQuery(url)]
  const [, scheme = '', userInfo, host = '', port = '', path = ''] = match
  const defaultPort = scheme.toLowerCase() === 'https' ? ':443' : ':80'
  const ports = port === '' || port === defaultPort ? ['', defaultPort] : [port]
  const userInfos = ['', userInfo, userInfoOf(header('authorization'))].flatMap((text) =>
    text === undefined ? [] : text === '' ? [''] : [`${text}@`],
  )
  const hosts = [host, host.toLowerCase()]
  const all = hosts.flatMap((name) =>
    userInfos.flatMap((user) => ports.map((end) => `${scheme.toLowerCase()}://${user}${name}${end}${path}`)),
  )
  return [...new Set(all)]
}

function withoutQuery(url: string): string {
  return url.split(/[?#]/, 1)[0]!
}

/** A user name and password in the configured URL arrive as Basic authentication. */
function userInfoOf(authorization: string | undefined): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]{1,512}={0,2})$/i.exec(authorization ?? '')?.[1]
  if (encoded === undefined) return undefined
  const [user = '', ...password] = Buffer.from(encoded, 'base64').toString('utf8').split(':')
  return `${encodeURIComponent(user)}:${encodeURIComponent(password.join(':'))}`
}

function signVoice(request: OutgoingRequest, secret: string): OutgoingRequest {
  const address = withoutQuery(request.url).replace(/^(https?:\/\/)[^/@]*@/i, '$1')
  const key = Buffer.from(secret)
  const headers = { ...request.headers }
  for (const { header, nonceHeader, separator } of NONCE_SIGNATURES) {
    if (header.includes('-ma-')) continue
    headers[nonceHeader] = Array.from(randomBytes(20), (byte) => byte % 10).join('')
    headers[header] = digest('hmac-sha256', key, address + separator + headers[nonceHeader]).toString('base64')
  }
  const fields = request.method === 'GET' ? queryOf(request.url) : request.body.toString('utf8')
  const glued = gluedFields([...new URLSearchParams(fields)])
  headers['x-vobiz-signature'] = digest('hmac-sha1', key, address + glued).toString('base64')
  return { ...request, headers }
}

const urlSignature: Signature = { proofs: voiceProofs, sign: signVoice, coversUrl: true }

// Trunk, KYC, WhatsApp, NDNC: HMAC-SHA256 over the body, usually in hex.

function bodySignature({
  header: name,
  prefix = '',
  decode = fromHex,
}: {
  header: string
  prefix?: string
  decode?: (text: string) => Buffer
}): Signature {
  return {
    proofs({ header, body }) {
      const value = header(name)
      if (value === undefined) return 'signature_missing'
      const signature = decode(value)
      if (signature.length === 0) return 'signature_unreadable'
      return [{ algorithm: 'hmac-sha256', signed: body, signature, encoding: 'hex', covers: 'body' }]
    },
    sign(request, secret) {
      const signature = digest('hmac-sha256', Buffer.from(secret), request.body).toString('hex')
      return { ...request, headers: { ...request.headers, [name]: prefix + signature } }
    },
  }
}

/** What the vendor's own receiver accepts: hex or base64, with or without "sha256=" before it. */
function fromHexOrBase64(text: string): Buffer {
  const written = text.replace(/^sha256=/i, '')
  const bytes = fromBase64(written)
  return bytes.length === 32 ? bytes : fromHex(written)
}

/** The body takes precedence over the headers, which are not signed. */
const splitTrunk = splitObject((text, { header }) => {
  const type = firstText(text, ['Event', 'event']) ?? (header('x-vobiz-event') || undefined)
  const requestId = text('RequestID') ?? (header('x-vobiz-request-id') || undefined)
  return {
    // Both events of a call have the same request id.
    callbackId: requestId === undefined ? undefined : composeCallbackId(type ?? '', requestId),
    type: type ?? '',
    callId: text('CallUUID'),
    occurredAt: fromIsoTime(text('Timestamp')),
  }
})

const splitKyc = splitObject((text) => {
  const [session, event, time] = [text('session_id'), text('event'), text('timestamp')]
  const isNamed = session !== undefined && event !== undefined
  return {
    callbackId: isNamed ? composeCallbackId(session, event, time) : undefined,
    type: event ?? '',
    occurredAt: fromIsoTime(time),
  }
})

const splitWhatsapp = splitObject((text, { header }, json) => ({
  callbackId: text('event_id'),
  type: text('event_type') ?? header('x-webhook-event') ?? '',
  callId: whatsappCallId(json),
  occurredAt: fromIsoTime(text('occurred_at')),
}))

function whatsappCallId(json: Json): string | undefined {
  const calls = jsonAt(json, 'payload', 'calls')
  const id: unknown = Array.isArray(calls) && isObject(calls[0]) ? calls[0].id : undefined
  return typeof id === 'string' && id !== '' ? id : undefined
}

function splitNdnc({ json }: Message): CallbackFound[] | RejectReason {
  if (typeof json === 'string') return json
  if (!isObject(json.value)) return 'unreadable_body'
  // An object of another shape is kept as it is, since Vobiz has signed it.
  if (!Object.hasOwn(json.value, 'complaints')) return [found(json, { callbackId: undefined, type: '' })]
  const complaints = callbackElements(json, 'complaints') ?? 'unreadable_body'
  return typeof complaints === 'string' ? complaints : complaints.map(complaint)
}

function complaint(element: Json): CallbackFound {
  if (!isObject(element.value)) return { kind: 'unreadable', reason: 'callback_id_missing', raw: element.raw }
  return found(element, { callbackId: jsonContent(element).text('urn'), type: 'ndnc.complaint' })
}

function ndncEnvelope(complaints: Buffer[]): Buffer {
  const list = complaints.map((bytes) => bytes.toString('latin1')).join(',')
  const head = `{"accountName":"Demo Company","totalComplaints":${complaints.length}`
  return Buffer.from(`${head},"complaints":[${list}]}`, 'latin1')
}

// Legacy JSON: HMAC-SHA256 over timestamp and body, in hex.

function legacyProofs(message: Message): Proof[] | RejectReason {
  const value = message.header('x-vobiz-signature')
  const timestamp = message.header('x-vobiz-timestamp')
  if (value === undefined) return 'signature_missing'
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromUnixSeconds(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signature = fromHex(value)
  if (signature.length === 0) return 'signature_unreadable'
  return signedBodies(message).map((body) => ({
    algorithm: 'hmac-sha256',
    signed: Buffer.concat([Buffer.from(`${timestamp}.`), body]),
    signature,
    encoding: 'hex',
    covers: 'body',
    signedAt,
  }))
}

/**
 * The bytes, and the JSON as JavaScript would print it again. The documentation's sample verifies the latter, so a sender
 * that was tested against the sample might sign that.
 */
function signedBodies({ body, json }: Message): Buffer[] {
  if (typeof json === 'string') return [body]
  const printed = Buffer.from(JSON.stringify(json.value))
  return printed.equals(body) ? [body] : [body, printed]
}

function signLegacy(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const timestamp = String(toUnixSeconds(at))
  const signed = Buffer.concat([Buffer.from(`${timestamp}.`), request.body])
  const signature = digest('hmac-sha256', Buffer.from(secret), signed).toString('hex')
  return {
    ...request,
    headers: { ...request.headers, 'x-vobiz-timestamp': timestamp, 'x-vobiz-signature': signature },
  }
}

/** A call may have several recordings and be in several conferences, whose ids are not documented. */
const splitLegacy = splitObject((text) => {
  const [event, callId, recordingId] = [text('event'), text('call_id'), text('recording_id')]
  const isNamed = callId !== undefined && (recordingId !== undefined || event?.startsWith('call.'))
  return {
    callbackId: isNamed ? composeCallbackId(event, callId, recordingId) : undefined,
    type: event ?? '',
    callId,
    occurredAt: fromIsoTime(text('timestamp')) ?? fromIsoTime(legacyTime(event, text)),
  }
})

function legacyTime(event: string | undefined, text: Text): string | undefined {
  if (event === 'call.initiated') return text('start_time')
  return event === 'call.completed' || event === 'call.failed' ? text('end_time') : undefined
}

// What people are told, and how Vobiz delivers.

const URL_FACTS = {
  headers: [
    'X-Vobiz-Signature-V3',
    'X-Vobiz-Signature-V3-Nonce',
    'X-Vobiz-Signature-MA-V3',
    'X-Vobiz-Signature-V2',
    'X-Vobiz-Signature-V2-Nonce',
    'X-Vobiz-Signature-MA-V2',
    'X-Vobiz-Signature',
  ],
  signedText: documented(
    'V3: HMAC-SHA256 over the URL without query, “.” and the nonce, base64. V2: the same without “.”. The -MA- headers use the parent account’s token and the same nonce. The signed text of the oldest header, X-Vobiz-Signature, is not documented. It is assumed to be the URL and the sorted fields, as with Plivo, by HMAC-SHA1 (documented, seen) or HMAC-SHA256 (reported once), told apart by length',
  ),
  secret: documented('the account’s Auth Token, or that of the parent account'),
  covers: documented(
    'the URL and the nonce, never the fields: one signature fits any body. A known nonce with other bytes goes to quarantine',
  ),
} satisfies Partial<SchemeFacts>

const UNSIGNED =
  'Requests are signed only where the callback URL “has auth credentials configured”, and not for every kind of callback, so unsigned requests are normal. For those, use `urlTokens`, `basicAuth`, `headers` (`X-API-Key`, `X-Application-ID`) or `addresses`, or `allowUnsigned` beside `secrets`.'

const WITHIN_3_SECONDS: DeliveryRule = {
  timeoutMs: 3_000,
  retryDelaysMs: [1_000, 2_000, 4_000],
  isDelivered: (status) => status === 200,
}

const voiceSamples: Record<string, Sample> = {
  ...samples.voice,
  'Hangup (GET)': { method: 'GET', query: samples.voice.Hangup.form },
}

const voice: Scheme = {
  facts: {
    title: 'Voice callbacks: answer, hangup, ring, action, callbackUrl, conference and stream status',
    ...URL_FACTS,
    callbackId: assumed(
      'there is no id: built from `Event`, `CallUUID` and the leg, conference and member, recording, or stream with `Name` and `Timestamp`; from `Event` and `CallUUID` alone for CallInitiated, Ring, StartApp, MachineDetection and Hangup. Anything else is named by its bytes, and so are keys that were pressed and words that were said (DialDigitsMatch, ConferenceDigitsMatch, `InputType`, `Digits`, `Speech`)',
    ),
    type: documented('`Event`; without it, `DialAction` if there is a `DialStatus` (assumed)'),
    occurredAt: assumed(
      '`timestamp`, if present (documented for all, not seen); for CallInitiated `SessionStart`, in UTC; for recordings `RecordingStartMs` and `RecordingEndMs`; else the time of receipt. `StartTime`, `AnswerTime`, `EndTime` and `Timestamp` have no time zone (usually India’s) and are not used',
    ),
    account: unknown('`ParentAuthID` stays in the payload'),
    callId: documented('`CallUUID`'),
    timeLimit: documented('3 s'),
    retries: documented('up to 3 times with growing pauses of undocumented length, unless the answer is 200'),
    answer: assumed(
      'exactly 200 (documented). URLs such as `answer_url` expect XML, and JSON was seen to end the call (“Invalid Answer XML”, 8011); `hangup_url` defaults to `answer_url`. So every answer is XML, by default one that keeps the call alive for a minute. It uses the element Wait, which Vobiz is assumed to know, as Plivo does. The option `answer` sets another',
    ),
    traps: [
      'A signature proves who called the URL, not what the fields say: anybody who saw one could reuse it with other fields. Give the URL a secret token as well.',
      UNSIGNED,
      'Signed requests were seen to carry `auth-token` and `parent-auth-token` in plain text. Ringback stores neither.',
      'ClearedAudio can come twice with the same fields in the same second; it is stored once. A second Redirect, Transfer, unanswered Dial or press of the same keys differs in no field that was seen: within ten minutes of the first it is not stored again.',
      'Callbacks may arrive out of order: if two members leave, the second may be reported first.',
      'Whether a repetition has the nonce of the first attempt is not documented; both are accepted.',
    ],
  },
  methods: ['POST', 'GET'],
  signature: urlSignature,
  split: splitVoice,
  answer: { contentType: 'application/xml', body: '<Response><Wait length="60"/></Response>' },
  delivery: WITHIN_3_SECONDS,
  callEnd: { types: ['Hangup'] },
  samples: voiceSamples,
}

const trunk: Scheme = {
  facts: {
    title: 'Trunk webhooks: CallInitiated and Hangup',
    headers: ['X-Vobiz-Signature', 'X-Vobiz-Event', 'X-Vobiz-Request-ID'],
    signedText: assumed(
      'HMAC-SHA256 over the body, hex, is documented. The header’s name is “to be confirmed in the console”, so the name in the example is used',
    ),
    secret: documented('the trunk’s own secret, to be confirmed in the console'),
    covers: documented('the body, not the headers beside it'),
    callbackId: documented(
      'event and request id: `Event` and `RequestID`, else X-Vobiz-Event and X-Vobiz-Request-ID; both events of a call share the request id',
    ),
    type: documented('`Event`, else X-Vobiz-Event'),
    occurredAt: documented('`Timestamp`'),
    account: documented('`auth_id` in CallInitiated, `AccountId` in Hangup; in the payload'),
    callId: documented('`CallUUID`'),
    timeLimit: documented('10 s'),
    retries: documented('none after a time-out; the call continues regardless'),
    answer: unknown('not documented; 200 is assumed'),
    traps: [
      'If the console names a header other than X-Vobiz-Signature, use the generic preset.',
      'Nothing is sent again, so callbacks are lost while Ringback cannot be reached.',
    ],
  },
  methods: ['POST'],
  signature: bodySignature({ header: 'x-vobiz-signature' }),
  split: splitTrunk,
  delivery: { timeoutMs: 10_000, retryDelaysMs: [], isDelivered: is2xx },
  callEnd: { types: ['Hangup'] },
  samples: samples.trunk,
}

const kyc: Scheme = {
  facts: {
    title: 'KYC sessions',
    headers: ['X-Vobiz-Signature'],
    signedText: documented(
      'HMAC-SHA256 over the body, written as `sha256=` and hex. Bare hex and base64 are accepted as well, as by the vendor’s own receiver',
    ),
    secret: documented('the Auth Token of the parent account'),
    covers: documented('the body'),
    callbackId: assumed('`session_id`, `event` and `timestamp`; each field is documented'),
    type: documented('`event`'),
    occurredAt: documented('`timestamp`'),
    account: documented('`account_auth_id`, a sub-account, in the payload'),
    callId: unknown('none'),
    timeLimit: unknown(),
    retries: documented('with growing pauses of undocumented length'),
    answer: documented('any 2xx'),
    traps: ['The payload holds personal data of the customer.'],
  },
  methods: ['POST'],
  signature: bodySignature({ header: 'x-vobiz-signature', prefix: 'sha256=', decode: fromHexOrBase64 }),
  split: splitKyc,
  delivery: { timeoutMs: 10_000, retryDelaysMs: [1_000, 2_000, 4_000], isDelivered: is2xx },
  samples: samples.kyc,
}

const whatsapp: Scheme = {
  facts: {
    title: 'WhatsApp messages, their states, and calls',
    headers: ['X-Webhook-Signature', 'X-Webhook-Event'],
    signedText: documented(
      'HMAC-SHA256 over the body, hex without prefix. The prefix `sha256=` and base64 are accepted as well, as by the vendor’s own receiver',
    ),
    secret: documented('the secret of the webhook subscription'),
    covers: documented('the body'),
    callbackId: documented('`event_id`'),
    type: documented('`event_type`, else X-Webhook-Event'),
    occurredAt: documented('`occurred_at`'),
    account: documented('`account_id`, in the payload'),
    callId: assumed('for calls `payload.calls[0].id`, in the form of Meta’s own webhooks'),
    timeLimit: documented('“a few seconds”'),
    retries: documented('repetitions happen; the schedule is not documented'),
    answer: documented('200'),
    traps: ['The content of `payload` has the form of Meta’s Cloud API; its details are assumed.'],
  },
  methods: ['POST'],
  signature: bodySignature({ header: 'x-webhook-signature', decode: fromHexOrBase64 }),
  split: splitWhatsapp,
  delivery: { ...WITHIN_3_SECONDS, timeoutMs: 5_000 },
  samples: samples.whatsapp,
}

const ndnc: Scheme = {
  facts: {
    title: 'NDNC complaints, several in one request',
    headers: ['X-VoBiz-Signature'],
    signedText: documented('HMAC-SHA256 over the body, hex as in the sample code'),
    secret: documented('a shared secret, agreed upon by mail'),
    covers: documented('the whole body, so all complaints in it'),
    callbackId: documented('`urn` of each complaint'),
    type: assumed('there is none, so it is `ndnc.complaint`'),
    occurredAt: documented('the time of receipt, because `complaintDate` is a day without a time'),
    account: documented('`accountId` of each complaint, in the payload'),
    callId: unknown('none'),
    timeLimit: documented('5 s'),
    retries: unknown(),
    answer: documented('any 2xx'),
    traps: ['One request makes several events.', 'It comes from a separate address: 15.207.141.89.'],
  },
  methods: ['POST'],
  signature: bodySignature({ header: 'x-vobiz-signature' }),
  split: splitNdnc,
  envelope: ndncEnvelope,
  delivery: { timeoutMs: 5_000, retryDelaysMs: [], isDelivered: is2xx },
  samples: samples.ndnc,
}

const legacy: Scheme = {
  facts: {
    title: 'JSON events `call.*`, `conference.*`, `recording.*` of the older documentation',
    headers: ['X-Vobiz-Signature', 'X-Vobiz-Timestamp'],
    signedText: documented(
      'HMAC-SHA256 over X-Vobiz-Timestamp, “.” and the body, hex. The bytes are tried first, then the JSON as JavaScript would print it, as in the documentation’s sample',
    ),
    secret: documented('the webhook secret'),
    covers: documented('the body and the time, within 300 s'),
    callbackId: assumed(
      '`event` and `call_id`, with `recording_id` if there is one; for conferences, and recordings without `recording_id`, the bytes',
    ),
    type: documented('`event`'),
    occurredAt: assumed(
      '`timestamp` if there is one; for call.initiated `start_time`, for call.completed and call.failed `end_time`; else the time of receipt',
    ),
    account: documented('`account_id`, in the payload'),
    callId: documented('`call_id`'),
    timeLimit: documented('3 s'),
    retries: documented('`fallback_callback_url` is called if the first URL fails'),
    answer: documented('exactly 200'),
    traps: [
      'Captured traffic (observed by others) has no timestamp header and is signed as in scheme `voice`. Use this scheme only if requests have X-Vobiz-Timestamp.',
      'If only the second form verifies, the body differs in its bytes from what was signed: digits beyond 2^53 and bytes that are not UTF-8 are not protected.',
      UNSIGNED,
    ],
  },
  methods: ['POST'],
  signature: { proofs: legacyProofs, sign: signLegacy, toleranceSeconds: 300 },
  split: splitLegacy,
  delivery: { ...WITHIN_3_SECONDS, retryDelaysMs: [] },
  callEnd: { types: ['call.completed', 'call.failed'] },
  samples: samples.legacy,
}

const recording: Scheme = {
  facts: {
    title: 'Recording and transcription URLs of the REST call “record”',
    ...URL_FACTS,
    signedText: assumed('as in scheme `voice`; nothing is documented for these URLs'),
    secret: assumed('the account’s Auth Token, or that of the parent account, as for voice callbacks'),
    covers: assumed(
      'the URL and the nonce, never the fields, as for voice callbacks. A known nonce with other bytes goes to quarantine',
    ),
    callbackId: assumed('the event with `RecordingID` or `recording_id`'),
    type: assumed('`Event`, else `transcription` if a field’s name begins with it, else `recording`'),
    occurredAt: assumed('`timestamp`, else the time of receipt'),
    account: unknown(),
    callId: assumed('`CallUUID` or `call_uuid`'),
    timeLimit: assumed('3 s, as for voice callbacks'),
    retries: assumed('3, as for voice callbacks'),
    answer: assumed('200, as for voice callbacks'),
    traps: [
      'It is documented that these URLs are called, but not what is sent to them. A form is assumed; JSON is accepted as well.',
      'Give the transcription URL a source of its own. If its fields do not identify it as a transcription, it would count as a repetition of the recording.',
      UNSIGNED,
    ],
  },
  methods: ['POST', 'GET'],
  signature: urlSignature,
  split: splitRecording,
  delivery: WITHIN_3_SECONDS,
  samples: samples.recording,
}

/** Sources for Vobiz: the option `scheme` says which of its seven kinds of requests come to the URL. */
export const vobiz = definePreset({
  name: 'vobiz',
  title: 'Vobiz',
  schemes: { voice, trunk, kyc, whatsapp, ndnc, legacy, recording },
  example: `vobiz: vobiz({
  scheme: 'voice',
  secrets: [env('VOBIZ_AUTH_TOKEN'), env('VOBIZ_AUTH_TOKEN_PREVIOUS')],
  urlTokens: env('VOBIZ_URL_TOKEN'),
  allowUnsigned: true,
}),`,
  sourceAddresses: documented(
    '15.206.6.156, 35.154.59.246 and 15.207.8.226, which may change; NDNC complaints: 15.207.141.89',
  ),
  setUp: [
    'Choose the `scheme` of the source by the kind of callback. Use one URL for one kind, because the header does not tell their signatures apart.',
    'Give the source a URL token, and set PUBLIC_BASE_URL to the beginning of the URL, exactly as you will enter it at Vobiz: the voice signature covers it.',
    'Put the Auth Token (voice, recording, KYC) or the secret of the trunk, subscription or complaint webhook into the variable that `secrets` names, set `allowUnsigned: true`, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>/<token>` as `answer_url`, `hangup_url`, `callback_url` or wherever this kind is set up. HTTPS only.',
    'Make a call. If no event shows `verified_by` as `secret`, everything is signed: remove `allowUnsigned` again.',
  ],
  references: [
    'docs.vobiz.ai, concepts/validating-callbacks and concepts/callbacks',
    'docs.vobiz.ai, trunks/webhook, sub-accounts/kyc/email-flow-webhook, whatsapp/webhooks, account/ndnc-webhook, xml',
    'www.docs.vobiz.ai, concepts/callback-configurations (older)',
    'github.com/vobiz-ai/Vobiz-n8n-nodes and github.com/vobiz-ai/Agent-Skills',
  ],
})
