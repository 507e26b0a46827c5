import { jsonContent } from './message.ts'
import type { Message } from './message.ts'
import {
  digest,
  ed25519PublicKey,
  fromBase64,
  fromIsoTime,
  fromUnixSeconds,
  signEd25519,
  toUnixSeconds,
} from './proof.ts'
import { documented, is2xx, unknown } from './provider.ts'
import type { CallbackFound, Key, OutgoingRequest, Proof, ProviderRequest, RejectReason } from './provider.ts'
import { definePreset } from './source.ts'

// Standard Webhooks: signature over "id.timestamp.body", in a list of versioned signatures. Source: the specification,
// github.com/standard-webhooks/standard-webhooks.

const VERSIONS = new Map<string, { algorithm: 'hmac-sha256' | 'ed25519'; bytes: number }>([
  ['v1', { algorithm: 'hmac-sha256', bytes: 32 }],
  ['v1a', { algorithm: 'ed25519', bytes: 64 }],
])
/** Senders that change their secret send two or three. Each costs a pass over the body. */
const MAX_SIGNATURES = 16

/** `whsec_` and base64 is a shared secret, `whpk_` and base64 an Ed25519 public key. */
function toKey(secret: string): Key {
  if (secret.startsWith('whsk_')) throw new Error('"whsk_" begins a private key: give the public one, "whpk_"')
  const bytes = fromBase64(secret.replace(/^wh(?:sec|pk)_/, ''))
  if (bytes.length === 0) throw new Error('it must be base64 behind "whsec_" or "whpk_"')
  return secret.startsWith('whpk_') ? ed25519PublicKey(bytes) : bytes
}

/** How the headers of this request begin. Only those of one kind count, because anybody could add the other kind. */
function prefixOf(header: ProviderRequest['header']): 'webhook' | 'svix' {
  const has = (name: string) => header(name) !== undefined
  if (has('webhook-signature')) return 'webhook'
  return has('svix-signature') || (has('svix-id') && !has('webhook-id')) ? 'svix' : 'webhook'
}

function proofs({ header, body }: Message): Proof[] | RejectReason {
  const prefix = prefixOf(header)
  const signatures = header(`${prefix}-signature`)
  if (signatures === undefined) return 'signature_missing'
  const id = header(`${prefix}-id`) ?? ''
  if (id === '') return 'callback_id_missing'
  const timestamp = header(`${prefix}-timestamp`)
  if (timestamp === undefined) return 'timestamp_missing'
  const signedAt = fromUnixSeconds(timestamp)
  if (signedAt === undefined) return 'timestamp_unreadable'
  const signed = signedText(id, timestamp, body)
  const found = signatures.split(' ').flatMap((entry): Proof[] => {
    const comma = entry.indexOf(',')
    const version = VERSIONS.get(entry.slice(0, comma))
    const signature = fromBase64(entry.slice(comma + 1))
    if (version === undefined || signature.length !== version.bytes) return []
    return [{ algorithm: version.algorithm, signed, signature, encoding: 'base64', covers: 'body', signedAt }]
  })
  return found.length > 0 ? found.slice(0, MAX_SIGNATURES) : 'signature_unreadable'
}

function signedText(id: string, timestamp: string, body: Buffer): Buffer {
  // Header values come one character a byte, so this restores the bytes that were sent.
  return Buffer.concat([Buffer.from(`${id}.${timestamp}.`, 'latin1'), body])
}

function sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const prefix = prefixOf((name) => request.headers[name])
  const timestamp = String(toUnixSeconds(at))
  const signed = signedText(request.headers[`${prefix}-id`] ?? '', timestamp, request.body)
  return {
    ...request,
    headers: {
      ...request.headers,
      [`${prefix}-timestamp`]: timestamp,
      [`${prefix}-signature`]: signaturesBy(secret, signed).join(' '),
    },
  }
}

/** `whsec_` signs as v1, `whsk_` as v1a; 32 bytes without a prefix may be a key of either kind and sign as both. */
function signaturesBy(secret: string, signed: Buffer): string[] {
  if (secret.startsWith('whpk_')) throw new Error('a public key signs nothing: give the private one, "whsk_"')
  const bytes = fromBase64(secret.replace(/^wh(?:sec|sk)_/, ''))
  const byHmac = () => `v1,${digest('hmac-sha256', bytes, signed).toString('base64')}`
  // Some tools append the public key to the private one.
  const byEd25519 = () => `v1a,${signEd25519(bytes.subarray(0, 32), signed).toString('base64')}`
  if (secret.startsWith('whsk_')) return [byEd25519()]
  return secret.startsWith('whsec_') || bytes.length !== 32 ? [byHmac()] : [byHmac(), byEd25519()]
}

function split({ json, header, body }: Message): CallbackFound[] | RejectReason {
  const callbackId = header(`${prefixOf(header)}-id`)
  if (callbackId === undefined) return 'callback_id_missing'
  // Senders that follow the specification may send an empty body.
  if (body.length === 0) return [{ kind: 'found', callbackId, type: '', raw: body, payload: 'null' }]
  if (typeof json === 'string') return json
  const { text, raw } = jsonContent(json)
  return [{ kind: 'found', callbackId, type: text('type') ?? '', occurredAt: fromIsoTime(text('timestamp')), raw }]
}

/** Sources for any sender that follows Standard Webhooks, or signs as Svix does. */
export const standardWebhooks = definePreset({
  name: 'standard-webhooks',
  title: 'Standard Webhooks',
  schemes: {
    signed: {
      facts: {
        title: 'Any sender that follows the specification',
        headers: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
        signedText: documented(
          'webhook-id "." webhook-timestamp "." body; `v1` HMAC-SHA256, `v1a` Ed25519, base64; several in one header, separated by spaces, of which any may match (16 are tried)',
        ),
        secret: documented(
          'the endpoint’s secret, `whsec_...`, or its public key, `whpk_...`; a secret may lack the prefix',
        ),
        covers: documented('the body, the id and the time'),
        callbackId: documented('`webhook-id`, the same for all repetitions'),
        type: documented('`type` in the body'),
        occurredAt: documented('`timestamp` in the body; the header’s time is that of the attempt'),
        account: unknown('none'),
        callId: unknown('none'),
        timeLimit: documented('senders are advised to allow 15 to 30 s'),
        retries: documented('an example schedule has ten attempts over three days; 410 ends the repetitions'),
        answer: documented('any 2xx'),
        traps: [
          'Senders that use Svix name the headers `svix-id`, `svix-timestamp` and `svix-signature`; these are used if there is no `webhook-signature`.',
          'The time must be that of the attempt. A sender that signs only once and repeats for hours is refused after 5 minutes: raise `toleranceSeconds`.',
        ],
      },
      methods: ['POST'],
      signature: { key: toKey, proofs, sign, toleranceSeconds: 300 },
      split,
      delivery: {
        timeoutMs: 15_000,
        retryDelaysMs: [5_000, 300_000, 1_800_000],
        isDelivered: is2xx,
        isRetried: (status) => status !== 410,
      },
      samples: {
        'contact.created': {
          headers: { 'webhook-id': 'msg_{{alphanumeric:24}}' },
          json: { type: 'contact.created', timestamp: '{{iso}}', data: { id: '{{uuid}}' } },
        },
      },
    },
  },
  sourceAddresses: unknown('the sender’s own'),
  setUp: [
    'Enter `https://your.host/callbacks/<source>` as the endpoint’s URL.',
    'Copy the endpoint’s secret (`whsec_...`) or public key (`whpk_...`) into the variable that `secrets` names, and restart Ringback.',
  ],
  references: ['github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md'],
})
