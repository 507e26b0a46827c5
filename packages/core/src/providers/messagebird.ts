import { randomUUID } from 'node:crypto'
import { composeCallbackId } from './callback-id.ts'
import { agrees, hashClaim, parseJwt, proofOf, signedHash, signJwt, timeProblem } from './jwt.ts'
import type { Jwt } from './jwt.ts'
import type { Content, Message } from './message.ts'
import { fromIsoTime, toUnixSeconds } from './proof.ts'
import { assumed, documented, is2xx, observed, unknown } from './provider.ts'
import type { CallbackFound, OutgoingRequest, Proof, RejectReason, SignedHash } from './provider.ts'
import { definePreset } from './source.ts'

// MessageBird's own API: a signed token with the hashes of URL and body. For its successor see bird.ts.

const HEADER = 'messagebird-signature-jwt'
const ISSUER = 'MessageBird'

function proofs(message: Message): Proof[] | RejectReason {
  const token = message.header(HEADER)
  if (token === undefined) return 'signature_missing'
  const jwt = parseJwt(token, ['HS256', 'HS384', 'HS512'])
  if (jwt === undefined) return 'signature_unreadable'
  // Without a body the content is in the URL's query, which is signed just as well.
  const proof = proofOf(jwt, message.body.length === 0 ? 'url' : 'body')
  const hashes = hashesOf(jwt, message)
  return [{ ...proof, hashes, problem: timeProblem(jwt, message.receivedAt) ?? claimsProblem(jwt, hashes) }]
}

/** As the vendor's library has it: only `payload_hash` may be missing, and only where there is no body. */
function hashesOf({ claims }: Jwt, { url, body }: Message): SignedHash[] {
  const { url_hash: urlHash, payload_hash: payloadHash } = claims
  const ofUrl = signedHash('url_hash', urlHash, url)
  return payloadHash === undefined && body.length === 0
    ? [ofUrl]
    : [ofUrl, signedHash('payload_hash', payloadHash, body)]
}

function claimsProblem({ claims: { iss, jti } }: Jwt, hashes: SignedHash[]): RejectReason | undefined {
  if (iss !== ISSUER || jti === undefined) return 'signature_unreadable'
  const wrong = hashes.find((hash) => !agrees(hash))
  if (wrong === undefined) return undefined
  return wrong.name === 'url_hash' ? 'url_hash_mismatch' : 'body_hash_mismatch'
}

function sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
  const iat = toUnixSeconds(at)
  const claims = {
    iss: ISSUER,
    iat,
    nbf: iat,
    exp: iat + 60,
    jti: randomUUID(),
    url_hash: hashClaim(request.url),
    ...(request.body.length > 0 && { payload_hash: hashClaim(request.body) }),
  }
  return { ...request, headers: { ...request.headers, [HEADER]: signJwt(claims, secret) } }
}

function split({ content }: Message): CallbackFound[] | RejectReason {
  if (typeof content === 'string') return content
  const { text, raw, payload } = content
  return [
    {
      kind: 'found',
      callbackId: conversationId(content) ?? messageId(content),
      type: text('type') ?? text('status') ?? '',
      occurredAt: fromIsoTime(text('message', 'updatedDatetime') ?? text('statusDatetime') ?? text('createdDatetime')),
      raw,
      payload,
    },
  ]
}

function conversationId({ text }: Content): string | undefined {
  return composeCallbackId(text('message', 'id'), text('type'), text('message', 'status'))
}

/** A message to several recipients has one id, and a status for each. */
function messageId({ text }: Content): string | undefined {
  return composeCallbackId(text('id'), text('recipient'), text('status'))
}

/** Sources for the MessageBird API. It signs the URL too, so where that begins must be known. */
export const messagebird = definePreset({
  name: 'messagebird',
  title: 'MessageBird',
  schemes: {
    signed: {
      facts: {
        title: 'Webhooks of the MessageBird API: SMS, conversations, voice',
        headers: ['MessageBird-Signature-JWT'],
        signedText: documented(
          'a JWT (HS256, HS384 or HS512) with `iss` MessageBird and the SHA-256, in hex, of the URL (`url_hash`) and of the body (`payload_hash`, which may be missing only if there is no body)',
        ),
        secret: documented('the account’s signing key, under Developers, API settings in the dashboard'),
        covers: documented('the body and the URL with its query'),
        callbackId: assumed(
          'for conversations `message.id`, `type` and `message.status`; for SMS `id`, `recipient` and `status`; else the body’s bytes within a window',
        ),
        type: assumed('`type`, else `status`'),
        occurredAt: observed('`message.updatedDatetime`, `statusDatetime` or `createdDatetime`'),
        account: unknown('none'),
        callId: unknown('none'),
        timeLimit: unknown(),
        retries: unknown(),
        answer: assumed('any 2xx'),
        traps: [
          'The token limits its own validity (`nbf`, `exp`), give or take 5 seconds as in the vendor’s library: keep the clock right.',
          'The URL is signed as MessageBird called it, query included: behind a proxy set `PUBLIC_BASE_URL`.',
          'The vendor’s Express middleware calls the next handler whatever its check finds. A receiver that relied on it accepted everything.',
        ],
      },
      methods: ['POST', 'GET'],
      signature: { proofs, sign, coversUrl: true, coversQuery: true },
      split,
      delivery: {
        timeoutMs: 10_000,
        retryDelaysMs: [5_000, 60_000, 600_000],
        isDelivered: is2xx,
      },
      samples: {
        delivered: {
          method: 'GET',
          query: {
            id: '{{alphanumeric:32}}',
            recipient: '15550100001',
            reference: 'demo',
            status: 'delivered',
            statusDatetime: '{{iso}}',
          },
        },
        'message.created': {
          json: {
            type: 'message.created',
            conversation: { id: '{{alphanumeric:32}}' },
            message: {
              id: '{{alphanumeric:32}}',
              direction: 'received',
              status: 'received',
              type: 'text',
              content: { text: 'Hello' },
              createdDatetime: '{{iso}}',
              updatedDatetime: '{{iso}}',
            },
          },
        },
      },
    },
  },
  sourceAddresses: unknown(),
  setUp: [
    'Copy the signing key from the dashboard into the variable that `secrets` names; set `PUBLIC_BASE_URL`; restart Ringback.',
    'Enter `https://your.host/callbacks/<source>` as the webhook or status report URL.',
  ],
  references: ['npm messagebird 4.0.1, lib/webhook-signature-jwt.js'],
})
