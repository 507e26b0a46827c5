import { isObject } from '../is-object.ts'
import { jsonAt, jsonContent } from './message.ts'
import type { Message } from './message.ts'
import { ed25519PublicKey, fromBase64, fromIsoTime, fromUnixSeconds, signEd25519, toUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, OutgoingRequest, Proof, RejectReason } from './provider.ts'
import samples from './samples/telnyx.json' with { type: 'json' }
import { definePreset } from './source.ts'
import { FINAL_CALL_STATUSES, splitForm } from './twilio.ts'

// Telnyx: an Ed25519 signature over "timestamp|body", by a key pair of the account.

const SIGNATURE_BYTES = 64

function signedText(timestamp: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${timestamp}|`), body])
}

function proofs({ header, body }: Message): Proof[] | RejectReason {
  const [text, timestamp] = [header('telnyx-signature-ed25519'), header('telnyx-timestamp')]
  if (text === undefined) return 'signature_missing'
  const signature = fromBase64(text)
  if (signature.length !== SIGNATURE_BYTES) return 'signature_unreadable'
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromUnixSeconds(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signed = signedText(timestamp, body)
  return [{ algorithm: 'ed25519', signed, signature, encoding: 'base64', covers: 'body', signedAt }]
}

/** `secret` is the private key: its 32 bytes as base64. */
function sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const timestamp = String(toUnixSeconds(at))
  const signature = signEd25519(fromBase64(secret), signedText(timestamp, request.body)).toString('base64')
  return {
    ...request,
    headers: { ...request.headers, 'telnyx-timestamp': timestamp, 'telnyx-signature-ed25519': signature },
  }
}

function split(message: Message): CallbackFound[] | RejectReason {
  const { json, content } = message
  if (typeof json === 'string') {
    if (typeof content === 'string') return content
    // Every TeXML form is documented to have both fields; one of them is enough to know it by.
    const isTexml = ['AccountSid', 'CallSid'].some((name) => content.text(name) !== undefined)
    return isTexml ? splitForm(message) : json
  }
  if (!isObject(jsonAt(json, 'data'))) return 'callback_id_missing'
  const { text, raw } = jsonContent(json)
  return [
    {
      kind: 'found',
      callbackId: text('data', 'id'),
      type: text('data', 'event_type') ?? '',
      callId: text('data', 'payload', 'call_session_id') ?? text('data', 'payload', 'call_control_id'),
      occurredAt: fromIsoTime(text('data', 'occurred_at')),
      raw,
    },
  ]
}

/** Sources for Telnyx: the secret is the account's public key. */
export const telnyx = definePreset({
  name: 'telnyx',
  title: 'Telnyx',
  schemes: {
    signed: {
      facts: {
        title: 'Messaging and voice webhooks, TeXML callbacks',
        headers: ['telnyx-signature-ed25519', 'telnyx-timestamp'],
        signedText: documented('telnyx-timestamp "|" body; Ed25519, base64'),
        secret: documented(
          'Not a secret but the account’s public key, base64 of 32 bytes, shown in Mission Control under Keys & Credentials.',
        ),
        covers: documented('the body and the time'),
        callbackId: documented(
          '`data.id`, the same for all repetitions; for TeXML callbacks, which are forms, the fields that say what happened, as with Twilio',
        ),
        type: documented('`data.event_type`; for TeXML callbacks as with Twilio'),
        occurredAt: documented('`data.occurred_at`; for TeXML callbacks `Timestamp`'),
        account: documented('none; `AccountSid` of TeXML callbacks stays in the payload'),
        callId: assumed(
          '`data.payload.call_session_id`, else `data.payload.call_control_id`; for TeXML callbacks `CallSid`',
        ),
        timeLimit: documented('2 s for messaging; configurable for voice'),
        retries: documented(
          'Messaging tries up to three times per URL and then the failover URL. Voice goes to the failover URL when the answer is not 200.',
        ),
        answer: documented('any 2xx; the pages on voice say 200'),
        traps: [
          'The header’s time must be within 5 minutes, as in the vendor’s library. Raise `toleranceSeconds` if your clocks differ by more.',
          'Voice can be set to call back with GET. What is signed then is not documented, so keep POST.',
          'Of TeXML, use Ringback for status callbacks only. A URL that must answer with instructions needs them in `answer`.',
          'The primary URL and the failover URL get the same `data.id`: point both at the same source, so that an event that reaches both is stored once.',
        ],
      },
      methods: ['POST'],
      signature: {
        key: (secret) => ed25519PublicKey(fromBase64(secret)),
        proofs,
        sign,
        toleranceSeconds: 300,
      },
      split,
      delivery: {
        timeoutMs: 2_000,
        retryDelaysMs: [1_000, 5_000],
        isDelivered: is2xx,
      },
      // By the field for TeXML, whose recordings are completed as well.
      callEnd: { types: ['call.hangup'], field: 'CallStatus', values: FINAL_CALL_STATUSES },
      samples,
    },
  },
  sourceAddresses: unknown(),
  setUp: [
    'Copy the public key from Mission Control, Keys & Credentials, into the variable that `secrets` names, and restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the webhook URL of the messaging profile or the voice application, with POST and API version 2, or as the status callback of a TeXML application, with POST.',
  ],
  references: [
    'developers.telnyx.com, receiving webhooks',
    'developers.telnyx.com, API reference, TeXML callbacks',
    'npm telnyx 7.24.0, lib/webhooks.ts',
  ],
})
