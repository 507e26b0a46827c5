import { randomBytes } from 'node:crypto'
import { composeCallbackId } from './callback-id.ts'
import { firstText, outgoingMessage } from './message.ts'
import type { Content, Fields, Message } from './message.ts'
import { digest, fromBase64 } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, Proof, RejectReason, Sample, SchemeFacts, Signature, VerifiedBy } from './provider.ts'
import samples from './samples/plivo.json' with { type: 'json' }
import { definePreset } from './source.ts'

// Plivo: voice callbacks sign URL, fields and a nonce (V3), messaging callbacks only the URL and a nonce (V2). Source:
// Plivo's pages on validation, and its Node library.

type Target = Pick<Message, 'method' | 'url' | 'query' | 'form' | 'body'>

const ADDRESS = /^([a-z][a-z0-9+.-]*:\/\/)(?:[^/?#@]*@)?/i

/** The URL without query, user name and password. Plivo signs none of these as they are written. */
function baseUrl({ url }: Pick<Target, 'url'>): string {
  return url.split(/[?#]/, 1)[0]!.replace(ADDRESS, '$1')
}

/** What V3 signs before "." and the nonce. */
function signedFields(target: Target): { text: string } | RejectReason {
  const { method, query, form, body } = target
  const base = baseUrl(target)
  const queryText = sorted(query)
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
  const urlText = queryText === '' ? base : `${base}?${queryText}`
  if (method === 'GET') return { text: urlText }
  if (typeof form === 'string') return form
  // Only fields are signed: with any other body, the signature would say nothing about it.
  if (form.length === 0) return body.length > 0 ? 'signature_mismatch' : { text: urlText }
  const fields = sorted(form)
    .map(([name, value]) => name + value)
    .join('')
  return { text: `${urlText}${queryText === '' ? '?' : '.'}${fields}` }
}

/** By name, then by value, in the order of UTF-16 code units. */
function sorted(fields: Fields): Fields {
  return fields.toSorted(([a, x], [b, y]) => (a === b ? byCodeUnits(x, y) : byCodeUnits(a, b)))
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Nonces are 20 digits. A "." in one could be the end of a field's value, a "/" or "?" a part of another URL. */
const NONCE = /^[\w-]{1,128}$/

/** A header may list several; each costs an HMAC over the whole text, and a hostile one could hold hundreds. */
const MAX_SIGNATURES = 10

interface Version {
  name: 'v2' | 'v3'
  separator: string
  signedText: (target: Target) => { text: string } | RejectReason
  covers: (target: Target) => VerifiedBy
  coversQuery: boolean
  /** Whether the nonce must be remembered, because the content is not signed. */
  keepsNonce: boolean
}

const V3: Version = {
  name: 'v3',
  separator: '.',
  signedText: signedFields,
  covers: ({ method }) => (method === 'GET' ? 'url' : 'body'),
  coversQuery: true,
  keepsNonce: false,
}
const V2: Version = {
  name: 'v2',
  separator: '',
  signedText: (target) => ({ text: baseUrl(target) }),
  covers: () => 'url',
  coversQuery: false,
  keepsNonce: true,
}

function nonceSignature(version: Version): Signature {
  const header = `x-plivo-signature-${version.name}`
  const nonceHeader = `${header}-nonce`
  return {
    coversUrl: true,
    coversQuery: version.coversQuery,
    proofs(message) {
      const values = [message.header(header), message.header(`x-plivo-signature-ma-${version.name}`)].filter(Boolean)
      if (values.length === 0) return 'signature_missing'
      const nonce = message.header(nonceHeader)
      if (nonce === undefined || nonce === '') return 'nonce_missing'
      const signatures = values.flatMap((value) => signaturesIn(value!))
      if (!NONCE.test(nonce) || signatures.length === 0) return 'signature_unreadable'
      const content = version.signedText(message)
      if (typeof content === 'string') return content
      const signed = Buffer.from(content.text + version.separator + nonce)
      const covers = version.covers(message)
      return signatures.map((signature): Proof => ({
        algorithm: 'hmac-sha256',
        signed,
        signature,
        encoding: 'base64',
        covers,
        ...(version.keepsNonce && { nonce }),
      }))
    },
    sign(request, secret, at) {
      const nonce = Array.from(randomBytes(20), (byte) => byte % 10).join('')
      const content = version.signedText(outgoingMessage(request, at))
      const text = typeof content === 'string' ? '' : content.text
      const signature = digest('hmac-sha256', Buffer.from(secret), text + version.separator + nonce).toString('base64')
      return { ...request, headers: { ...request.headers, [nonceHeader]: nonce, [header]: signature } }
    },
  }
}

function signaturesIn(header: string): Buffer[] {
  return header
    .split(',', MAX_SIGNATURES)
    .map((text) => fromBase64(text.trim()))
    .filter((signature) => signature.length > 0)
}

type Text = Content['text']

/** What a call reports once. Other events come again and again. */
const ONCE_EVENTS = new Set(['StartApp', 'Ring', 'Hangup', 'MachineDetection'])

/** What a call reports once for each of its legs or recordings, and the field that says which. */
const PART_OF_EVENT = new Map([
  ['DialAnswer', 'DialBLegUUID'],
  ['DialConnected', 'DialBLegUUID'],
  ['DialHangup', 'DialBLegUUID'],
  ['RecordStop', 'RecordingID'],
])

const FINAL_CALL_STATUSES = new Set(['completed', 'busy', 'failed', 'timeout', 'no-answer', 'cancel'])

/** What came of a <Dial>, a conference, a multiparty call or a recording is not the call's own end, whatever its status. */
const PARTS_OF_CALLS = ['DialStatus', 'DialAction', 'DialBLegUUID', 'ConferenceUUID', 'MPCUUID', 'RecordingID']

function nameOf(text: Text): string | undefined {
  const messageId = text('MessageUUID')
  // Each part of a long message reports its own status; a message that came in has none.
  if (messageId !== undefined) return composeCallbackId(messageId, text('Status'), text('PartInfo'))
  const [callId, event, status] = [text('CallUUID'), text('Event'), text('CallStatus')]
  if (event !== undefined) {
    if (ONCE_EVENTS.has(event)) return composeCallbackId(callId, event)
    const part = text(PART_OF_EVENT.get(event) ?? '')
    // Nobody may have answered: then no leg tells one <Dial> from the next.
    return part === undefined ? undefined : composeCallbackId(callId, event, part)
  }
  if (status === undefined || !FINAL_CALL_STATUSES.has(status)) return undefined
  return PARTS_OF_CALLS.some((name) => text(name) !== undefined) ? undefined : composeCallbackId(callId, status)
}

const TYPE_FIELDS = [
  'Event',
  'EventName',
  'DialAction',
  'ConferenceAction',
  'Status',
  'ChannelStatus',
  'CallStatus',
  'Type',
]

function split({ content }: Message): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  const type = firstText(text, TYPE_FIELDS) ?? ''
  return [{ kind: 'found', callbackId: nameOf(text), type, callId: callIdOf(text), raw, payload }]
}

/** A multiparty call tells of its participants' calls. */
function callIdOf(text: Text): string | undefined {
  return text('CallUUID') ?? text('ParticipantCallUUID')
}

/** Keeps a call waiting in silence. For a callback that only reports, it does nothing. */
const WAIT = {
  contentType: 'text/xml',
  body: '<?xml version="1.0" encoding="UTF-8"?><Response><Wait length="60"/></Response>',
}

const NO_REPLY = { contentType: 'text/xml', body: '<?xml version="1.0" encoding="UTF-8"?><Response/>' }

const commonFacts = {
  secret: documented(
    'The Auth Token of the account, from the console’s overview. A subaccount’s requests carry a second signature in the -Ma- header, made with the main account’s token; either one is enough.',
  ),
  account: documented('`ParentAuthID` in voice callbacks; Ringback’s account is the one whose token verified it.'),
} satisfies Partial<SchemeFacts>

/** Sources for Plivo: the option `scheme` says whether voice or messaging callbacks come to the URL. */
export const plivo = definePreset({
  name: 'plivo',
  title: 'Plivo',
  schemes: {
    voice: {
      facts: {
        ...commonFacts,
        title: 'Voice callbacks, signature V3',
        headers: ['X-Plivo-Signature-V3', 'X-Plivo-Signature-Ma-V3', 'X-Plivo-Signature-V3-Nonce'],
        signedText: documented(
          'The URL without its query, "?", the query’s fields sorted and decoded, "." if there were any, the form’s fields sorted by name as name and value, ".", the nonce; HMAC-SHA256, base64. A header may hold several, separated by commas. For GET only URL, query and nonce.',
        ),
        covers: documented('URL, query and form fields; for GET the URL with its query.'),
        callbackId: assumed(
          '`CallUUID` and `Event`, with `DialBLegUUID` or `RecordingID` where one is told of, for what a call reports once. Anything else, such as pressed digits, what came of a `<Dial>` or a conference, is named by its bytes. The nonce belongs to the request.',
        ),
        type: documented(
          '`Event`, or `EventName` of multiparty calls and number masking; without it `DialAction`, `ConferenceAction` or `CallStatus`.',
        ),
        occurredAt: assumed('None: `StartTime`, `AnswerTime` and `EndTime` have no time zone.'),
        callId: documented('`CallUUID`; `ParticipantCallUUID` in a multiparty call'),
        timeLimit: documented('2 s to connect, 40 s to read, 55 s in all; the URL’s fragment can change it.'),
        retries: documented(
          'One passage says: again if the answer is not 200. The table below it says: once, after a failed connection or a late answer, unless the fragment `#rc=...&rp=...` says otherwise. Then the fallback URL.',
        ),
        answer: assumed(
          '200. A `<Wait>` of a minute keeps a call that waits for instructions alive, in silence. A callback that only reports is assumed to ignore it.',
        ),
        traps: [
          'By default, a call that waits for instructions hears a minute of silence and ends: set `answer` to your own XML, or use another URL as the answer URL.',
          'The hangup URL defaults to the answer URL.',
          'Times have no zone, and were seen in more than one.',
          'The signed text has no separators between fields and no time. Anybody who has seen a signed request can repeat it, and can move the borders between its fields. Use HTTPS.',
        ],
      },
      methods: ['POST', 'GET'],
      signature: nonceSignature(V3),
      split,
      answer: WAIT,
      delivery: { timeoutMs: 40_000, retryDelaysMs: [1_000], isDelivered: (status) => status === 200 },
      callEnd: { types: ['Hangup', ...FINAL_CALL_STATUSES] },
      samples: samples.voice as Record<string, Sample>,
    },
    messaging: {
      facts: {
        ...commonFacts,
        title: 'Messaging and Verify callbacks, signature V2',
        headers: ['X-Plivo-Signature-V2', 'X-Plivo-Signature-Ma-V2', 'X-Plivo-Signature-V2-Nonce'],
        signedText: documented(
          'The URL without its query, then the nonce; HMAC-SHA256, base64. Several in one header are assumed, as with V3.',
        ),
        covers: documented('The URL without query. The body is not covered.'),
        callbackId: documented(
          '`MessageUUID` and `Status`, with `PartInfo` for parts of a long message. A Verify callback is named by its bytes.',
        ),
        type: documented('`Status`; for an incoming message `Type` (`sms`, `mms`); for Verify `ChannelStatus`.'),
        occurredAt: unknown('none'),
        callId: unknown('none'),
        timeLimit: documented('8 s'),
        retries: documented('Three times, 60, 120 and 240 s after the previous attempt.'),
        answer: assumed('Any 2xx; XML without instructions sends no reply.'),
        traps: [
          'Anybody who has seen one signature can use it with any body. Ringback remembers nonces: a known nonce with other bytes goes to quarantine.',
          'Whether a repetition has a new nonce is not documented.',
          'Add `urlTokens` or `basicAuth` where a forged body would do harm.',
        ],
      },
      methods: ['POST', 'GET'],
      signature: nonceSignature(V2),
      split,
      answer: NO_REPLY,
      delivery: {
        timeoutMs: 8_000,
        retryDelaysMs: [60_000, 120_000, 240_000],
        isDelivered: is2xx,
      },
      samples: samples.messaging,
    },
  },
  sourceAddresses: unknown(),
  setUp: [
    'Set `PUBLIC_BASE_URL` to the beginning of the URL that Plivo calls, exactly as you will enter it there: it is signed.',
    'Copy the Auth Token from the console into the variable that `secrets` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the URL for hangups, rings, callbacks or messages. Voice and messaging need two sources.',
  ],
  references: [
    'docs.plivo.com, voice/xml/request/validation',
    'docs.plivo.com, messaging/concepts/signature-validation',
    'plivo.com/docs/voice/concepts/callback-configurations',
    'support.plivo.com, "Will Plivo retry callbacks if the message_url is not reachable?"',
    'npm plivo 4.79.0, dist/utils/v3Security.js and security.js',
  ],
})
