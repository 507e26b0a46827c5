import { randomUUID } from 'node:crypto'
import { isObject } from '../is-object.ts'
import { composeCallbackId, isCallbackId } from './callback-id.ts'
import { hashClaim, isHashOf, parseJwt, proofOf, signedHash, signJwt, timeProblem } from './jwt.ts'
import type { Jwt } from './jwt.ts'
import { fieldsContent, queryOf } from './message.ts'
import type { Content, Fields, Message } from './message.ts'
import { digest, fromHex, fromIsoTime, fromUnixSeconds, toUnixSeconds } from './proof.ts'
import { documented, unknown } from './provider.ts'
import type { Algorithm, CallbackFound, OutgoingRequest, Proof, RejectReason, Sample, Scheme } from './provider.ts'
import samples from './samples/vonage.json' with { type: 'json' }
import { definePreset } from './source.ts'

// Vonage, once Nexmo: a signed token in the header, or, for SMS, a signature among the fields ("message signing").

// The token.

const BEARER = /^bearer +(\S+)$/i

function jwtProofs(message: Message): Proof[] | RejectReason {
  const token = BEARER.exec(message.header('authorization') ?? '')?.[1]
  if (token === undefined) return 'signature_missing'
  const jwt = parseJwt(token, ['HS256'])
  if (jwt === undefined) return 'signature_unreadable'
  const proof = contentProof(jwt, message)
  return [{ ...proof, problem: timeProblem(jwt, message.receivedAt) ?? proof.problem }]
}

/** The part of the request that the token vouches for by its claim `payload_hash`. */
function contentProof(jwt: Jwt, message: Message): Proof {
  const { payload_hash: payloadHash, jti } = jwt.claims
  const nonce = typeof jti === 'string' && isCallbackId(jti) ? { nonce: jti } : undefined
  const { body, method } = message
  // The content of a GET is its query, even if a body comes along: otherwise a token with its body would fit any query.
  if (method !== 'GET' && body.length > 0 && isHashOf(payloadHash, body)) return proofOf(jwt, 'body')
  // Other bytes can have the same compact form. With the token's id as a nonce, only one of them is stored.
  const forms = compactForms(message)
  const proof = proofOf(jwt, method === 'GET' ? 'url' : 'body')
  if (forms.some((form) => isHashOf(payloadHash, form))) return { ...proof, ...nonce }
  if (body.length > 0 || (payloadHash !== undefined && !isHashOf(payloadHash, body))) {
    const content = method === 'GET' ? (forms[0] ?? '') : body
    return {
      ...proof,
      problem: 'body_hash_mismatch',
      hashes: [signedHash('payload_hash', payloadHash, content)],
    }
  }
  // There is no body, and the token says nothing about the query: it proves only that Vonage made it.
  return { ...proof, covers: 'secret', ...(nonce ?? { problem: 'nonce_missing' }) }
}

/** The content as an object in JSON without white space, members in the order received: what the support article hashes. */
function compactForms({ content, json, method }: Message): (string | Buffer)[] {
  if (typeof content === 'string') return []
  if (content.payload !== undefined) return [content.payload]
  return method === 'GET' || typeof json === 'string' ? [] : [JSON.stringify(json.value), withoutSpaces(json.raw)]
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c]
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d])

/** Valid JSON without the white space between its tokens. */
function withoutSpaces(json: Buffer): Buffer {
  const kept = Buffer.alloc(json.length)
  let length = 0
  let quoted = false
  for (let at = 0; at < json.length; at += 1) {
    const byte = json[at]!
    if (byte === QUOTE) quoted = !quoted
    if (!quoted && SPACES.has(byte)) continue
    kept[length++] = byte
    if (byte === BACKSLASH) kept[length++] = json[(at += 1)]!
  }
  return kept.subarray(0, length)
}

function signWithJwt(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const { body, method, url } = request
  const query = Buffer.from(queryOf(url))
  const content = method === 'GET' ? fieldsContent([...new URLSearchParams(query.toString())], query).payload! : body
  const claims = {
    iat: toUnixSeconds(at),
    jti: randomUUID(),
    iss: 'Vonage',
    payload_hash: hashClaim(content),
    api_key: 'a1b2c3d4',
  }
  return { ...request, headers: { ...request.headers, authorization: `Bearer ${signJwt(claims, secret)}` } }
}

// The signature among the fields.

type SmsAlgorithm = Exclude<Algorithm, 'ed25519' | 'hmac-sha384'>

function smsProofs(algorithm: SmsAlgorithm, message: Message): Proof[] | RejectReason {
  if (typeof message.content === 'string') return 'signature_missing'
  const fields = signedFields(message)
  if (fields === undefined) return 'signature_unreadable'
  const signatures = fields.filter(([name]) => name === 'sig')
  if (signatures.length === 0) return 'signature_missing'
  const signature = fromHex(signatures[0]![1])
  if (signatures.length > 1 || signature.length === 0) return 'signature_unreadable'
  const signed = smsSignedText(fields)
  return [{ algorithm, signed, signature, encoding: 'hex', covers: 'body', signedAt: smsSignedAt(fields) }]
}

/** All fields of the request. Undefined if the signed text would not show which fields there were. */
function signedFields({ method, query, form, json }: Message): Fields | undefined {
  const fields = method === 'GET' ? query : typeof json === 'string' ? form : jsonFields(json.value)
  if (fields === undefined || typeof fields === 'string') return undefined
  // These characters are replaced in values but not in names: one name could spell several fields.
  return fields.some(([name]) => /[&=]/.test(name)) ? undefined : fields
}

function jsonFields(value: unknown): Fields | undefined {
  if (!isObject(value)) return undefined
  const members = Object.entries(value)
  return members.every(([, member]) => ['string', 'number', 'boolean'].includes(typeof member))
    ? members.map(([name, member]) => [name, String(member)])
    : undefined
}

function smsSignedText(fields: Fields): Buffer {
  const sorted = fields
    .filter(([name]) => name !== 'sig')
    .toSorted(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return Buffer.from(sorted.map(([name, value]) => `&${name}=${value.replaceAll(/[&=]/g, '_')}`).join(''))
}

/** A time that is missing or cannot be read counts as 1970, so that a time limit, if one is set, refuses it. */
function smsSignedAt(fields: Fields): Date {
  return fromUnixSeconds(fields.find(([name]) => name === 'timestamp')?.[1] ?? '') ?? new Date(0)
}

function signSms(algorithm: SmsAlgorithm, request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const added: Fields = [
    ['nonce', randomUUID()],
    ['timestamp', String(toUnixSeconds(at))],
  ]
  const withSig = (fields: Fields): [string, string][] => {
    const all = [...fields, ...added]
    const sig = digest(algorithm, Buffer.from(secret), smsSignedText(all)).toString('hex')
    return [...all, ['sig', sig] as const].map(([name, value]) => [name, value])
  }
  const { method, url, body } = request
  if (method === 'GET') {
    const query = new URLSearchParams(withSig([...new URLSearchParams(queryOf(url))]))
    return { ...request, url: `${url.split(/[?#]/, 1)[0]}?${query.toString()}` }
  }
  if (request.headers['content-type']?.startsWith('application/json') === true) {
    const fields = jsonFields(JSON.parse(body.toString())) ?? []
    return { ...request, body: Buffer.from(JSON.stringify(Object.fromEntries(withSig(fields)))) }
  }
  const form = new URLSearchParams(withSig([...new URLSearchParams(body.toString())]))
  return { ...request, body: Buffer.from(form.toString()) }
}

// What the requests hold, however they are signed.

const UTC_TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/

function split({ content }: Message): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  const messageTime = text('message-timestamp') ?? ''
  return [
    {
      kind: 'found',
      callbackId: callbackId(content),
      type: text('type') ?? text('status') ?? text('message_type') ?? '',
      callId: callIdOf(text),
      occurredAt: fromIsoTime(UTC_TIME.test(messageTime) ? `${messageTime.replace(' ', 'T')}Z` : text('timestamp')),
      raw,
      payload,
    },
  ]
}

/** That a human or a machine answered is told of a `call_uuid`. */
function callIdOf(text: Content['text']): string | undefined {
  return text('uuid') ?? text('call_uuid')
}

/** SMS, then Messages, then Voice; each event of a message or call has its own status. */
function callbackId({ text }: Content): string | undefined {
  const status = text('status')
  const ofCall =
    status === undefined
      ? // Key presses, recordings and transfers come several times in a call. A request for instructions has no time, and
        // comes again after a transfer, which is into another conversation.
        composeCallbackId(callIdOf(text), text('type'), text('timestamp') ?? text('conversation_uuid'))
      : composeCallbackId(callIdOf(text), status, text('sub_state'))
  return (
    composeCallbackId(text('messageId'), text('concat-part'), status) ??
    composeCallbackId(text('message_uuid'), status) ??
    composeCallbackId(text('recording_uuid'), text('type'), text('timestamp')) ??
    ofCall
  )
}

const common = {
  methods: ['POST', 'GET'],
  split,
  delivery: {
    timeoutMs: 5_000,
    retryDelaysMs: [5_000, 60_000, 600_000],
    isDelivered: (status) => status === 200 || status === 204,
  },
} satisfies Partial<Scheme>

const commonFacts = {
  callbackId: documented(
    '`messageId` with `concat-part` and `status` (SMS), `message_uuid` and `status` (Messages), `uuid` or `call_uuid` with `status` and `sub_state` (Voice), or without a status `type` and `timestamp`; `recording_uuid` with the same two. A request for instructions, which has no time, has `conversation_uuid` instead, which is assumed to differ after a transfer. Anything else, such as what Verify or a conversation reports, is named by its bytes.',
  ),
  type: documented('`type`, else `status`, else `message_type`'),
  occurredAt: documented('`message-timestamp`, taken as UTC; else `timestamp`'),
  callId: documented('`uuid`; `call_uuid` where machine detection reports'),
  timeLimit: documented('for an answer URL, 3 s to connect and 5 s to answer'),
  retries: documented(
    'An inbound SMS is sent again for 24 hours. An answer URL is tried twice, then its fallback URL twice.',
  ),
  answer: documented('200 or 204'),
}

function smsScheme(algorithm: SmsAlgorithm, inWords: string): Scheme {
  return {
    ...common,
    facts: {
      ...commonFacts,
      title: `SMS with message signing, ${inWords}`,
      headers: [],
      signedText: documented(
        `All fields but \`sig\`, sorted by name, each as "&name=value" with "&" and "=" in values replaced by "_"; ${inWords}, hex.`,
      ),
      secret: documented('the account’s signature secret (not the API secret), in the dashboard’s settings'),
      covers: documented('every field, except for the difference between "&", "=" and "_" in values'),
      account: documented('`api-key`; each account’s secret verifies its own callbacks'),
      traps: [
        'The scheme must match the algorithm chosen in the dashboard; requests cannot choose another. MD5 is the vendor’s default and the weakest: choose HMAC SHA-256 in both places.',
        'Inbound messages and receipts are signed only if Vonage has enabled signing for the account.',
        'Vonage’s library for Java leaves fields without a value out of what is signed; its others, and Ringback, do not. What Vonage itself does is not documented: a callback with an empty field may be refused, and waits in quarantine.',
        'Neither how old a signature may be nor whether a repetition is signed anew is documented, so no age is refused unless you set `toleranceSeconds`.',
      ],
    },
    signature: {
      proofs: (message) => smsProofs(algorithm, message),
      sign: (request, secret, at) => signSms(algorithm, request, secret, at),
    },
    samples: samples.sms as Record<string, Sample>,
  }
}

/** Sources for Vonage: the option `scheme` says whether webhooks with a JWT or signed SMS come to the URL. */
export const vonage = definePreset({
  name: 'vonage',
  title: 'Vonage',
  schemes: {
    jwt: {
      ...common,
      facts: {
        ...commonFacts,
        title: 'Signed webhooks: Messages, Voice, Verify and others',
        headers: ['Authorization'],
        signedText: documented(
          'A JWT (HS256) whose claim `payload_hash` is the SHA-256, in hex, of the body. In a support article it is instead the hash of the body, or of the query of a GET, as an object in compact JSON. Both are tried.',
        ),
        secret: documented(
          'the signature secret of the account that the claim `api_key` names, in the dashboard’s settings',
        ),
        covers: documented(
          'the body, or the query of a GET; a GET without `payload_hash` in its token proves only the secret',
        ),
        account: documented('the claim `api_key`; each account’s secret verifies its own callbacks'),
        traps: [
          'A vendor’s library checks the token but never `payload_hash`; Ringback refuses a body that does not match it.',
          'Neither a rule on the age of `iat` nor whether a repetition gets a new token is documented, so no age is refused unless you set `toleranceSeconds`. `exp` and `nbf` are checked if present, give or take 5 seconds, which is our choice.',
          'After an internal error Vonage may send a callback unsigned, and expects a 5xx to send it again signed. Ringback refuses it, and it waits in quarantine.',
          'An answer URL expects call instructions (NCCO): set `answer` to instructions that keep the call alive.',
        ],
      },
      signature: { proofs: jwtProofs, sign: signWithJwt, headers: ['authorization'] },
      callEnd: {
        types: ['completed', 'busy', 'cancelled', 'failed', 'rejected', 'timeout', 'unanswered'],
      },
      samples: { ...samples.sms, ...samples.jwt } as Record<string, Sample>,
    },
    'sms-md5': smsScheme('md5', 'MD5 with the secret appended'),
    'sms-hmac-md5': smsScheme('hmac-md5', 'HMAC-MD5'),
    'sms-hmac-sha1': smsScheme('hmac-sha1', 'HMAC-SHA1'),
    'sms-hmac-sha256': smsScheme('hmac-sha256', 'HMAC-SHA256'),
    'sms-hmac-sha512': smsScheme('hmac-sha512', 'HMAC-SHA512'),
  },
  sourceAddresses: unknown(),
  setUp: [
    'Copy the signature secret from the dashboard’s settings into the variable that `secrets` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the webhook URL of the application or number. For SMS with message signing, choose the scheme for the algorithm in the dashboard, such as `sms-hmac-sha256`.',
  ],
  references: [
    'developer.vonage.com, getting started, concepts: webhooks, signing messages',
    'api.support.vonage.com, how to verify that a Voice webhook’s payload has not been tampered with',
  ],
})
