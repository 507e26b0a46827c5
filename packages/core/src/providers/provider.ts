import type { KeyObject } from 'node:crypto'
import type { Message } from './message.ts'

// What a provider is to the rest of Ringback: facts about how it calls back, and functions that split a request and say
// which of its callbacks are genuine. Each provider is one file beside this one, and one line in all.ts.

/** What the proof of a callback covered, from strongest to weakest; the column `events.verified_by`. */
export type VerifiedBy = 'body' | 'url' | 'id' | 'secret' | 'none'

/** Why a request or a callback was refused; the column `quarantine.reason`. */
export type RejectReason =
  | 'unreadable_body'
  | 'too_deep'
  | 'too_many_callbacks'
  | 'callback_id_missing'
  | 'callback_id_unreadable'
  | 'token_not_replaced'
  | 'hash_missing'
  | 'hash_mismatch'
  | 'account_mismatch'
  | 'signature_missing'
  | 'signature_unreadable'
  | 'signature_mismatch'
  | 'body_hash_mismatch'
  | 'url_hash_mismatch'
  | 'timestamp_missing'
  | 'timestamp_unreadable'
  | 'timestamp_out_of_tolerance'
  | 'nonce_missing'
  | 'credentials_missing'
  | 'credentials_mismatch'
  | 'address_not_allowed'

export type Method = 'GET' | 'POST' | 'PUT'

/** One HTTP request as it came; nothing about it is taken from anywhere else. */
export interface ProviderRequest {
  method: string
  /** As the provider called it, with query and whatever secrets it holds. May be empty if the source does not need it. */
  url: string
  /** The bytes as they came. */
  body: Buffer
  /** A header by its lower-case name. */
  header: (name: string) => string | undefined
  /** The sender's address, not that of a proxy in front of ingest. */
  remoteAddress: string | undefined
  receivedAt: Date
  /** The last part of the path, which is one of the source's URL tokens. Not known of what comes back from quarantine. */
  urlToken?: string | undefined
  /**
   * Only for a request that comes back from quarantine, where credentials were replaced by keyed digests: makes the
   * digest of a credential. Never set for a request that comes by HTTP.
   */
  credentialDigest?: (credential: string) => string
}

/** A callback to accept: its provider really sent it, or `wouldRefuse` says why that is not proven. */
export interface GenuineCallback {
  kind: 'genuine'
  /** The configured account whose secret verified it, or empty. (Voximplant without accounts: the one that it names.) */
  accountId: string
  /** Names the callback within its source and account. */
  callbackId: string
  /** The provider's own word for it; empty where there is none. */
  type: string
  callId?: string
  /** When the provider says it happened; the time of receipt where it says nothing. */
  occurredAt: Date
  verifiedBy: VerifiedBy
  /** Which of the configured secrets verified it, from 1; of several lists, which combination. */
  secret?: number | undefined
  /** What the provider signs only once: another callback with one of these nonces and other bytes is a forgery. */
  nonces?: string[]
  /** If it is named by its bytes alone: the name that the same bytes had in the preceding window of time. */
  previousName?: PreviousName
  /** In shadow mode, or if an operator trusts it: why it would have been refused. */
  wouldRefuse?: RejectReason
  /** The callback's own bytes: an exact slice of the request, save for fields that the configuration drops. */
  raw: Buffer
  /** JSON text to store as the payload, where `raw` is no JSON. */
  payload?: string
}

export interface PreviousName {
  callbackId: string
  windowSeconds: number
}

/** A callback that is not accepted: forged, or not readable as this provider's. It goes to quarantine. */
export interface RefusedCallback {
  kind: 'forged' | 'unreadable'
  reason: RejectReason
  callbackId?: string
  raw: Buffer
}

/** What a request holds. `refused` concerns the request as a whole. */
export type Reading =
  | { kind: 'read'; callbacks: (GenuineCallback | RefusedCallback)[] }
  | { kind: 'refused'; as: 'forged' | 'unreadable'; reason: RejectReason; body: Buffer }

/** What a provider is told when its callbacks are on disk. The status is always 200. */
export interface Answer {
  contentType: string
  body: string
}

/** What says that a call is over: an event of one of these types, or with one of these texts in a field of its payload. */
export type CallEnd =
  | { types: string[] }
  | { field: string; values: string[] }
  | { types: string[]; field: string; values: string[] }

/** A configured connection to a provider, ready to read requests. Holds secrets: never log one. */
export interface Source {
  provider: string
  scheme: string
  methods: readonly Method[]
  /** If any are given, the URL must end in one of them; with another or none, the answer is 404. */
  urlTokens: readonly string[]
  /** Whether any of its secrets is one that this repository publishes. */
  usesDemoCredentials: boolean
  /** Whether the provider can sign, but no secret is set to verify its signatures. */
  isSignatureOff: boolean
  /** Whether `read` looks at the request's URL. */
  needsUrl: boolean
  /** Where its URLs begin as the provider calls them, if not at PUBLIC_BASE_URL. */
  publicBaseUrl: string | undefined
  /**
   * Headers, by lower-case names, that are stored as they came because signatures or names are read from them, although they
   * look like credentials or belong to the connection. What looks like a password or a fixed token is still not stored.
   */
  keptHeaders: readonly string[]
  /** The one of them that carries the signature by configuration: whatever comes in it is stored. */
  signatureHeader?: string | undefined
  /** Headers that carry credentials by configuration, whatever they are called; lower case. */
  credentialHeaders: readonly string[]
  /** Whether what would be refused as forged is accepted. */
  shadow: boolean
  answer: Answer
  /** The value of `WWW-Authenticate`, if the source asks for HTTP authentication. */
  challenge: string | undefined
  /**
   * Verifies and splits. Pure; never throws, whatever the bytes. With `trust`, which an operator decides on, what would be
   * refused as forged is accepted.
   */
  read: (request: ProviderRequest, options?: { trust?: boolean }) => Reading
  /** For operators, never for senders: what the request presents as its proof and what was expected. */
  explain: (request: ProviderRequest) => ProofExplanation[]
  /** Makes the body of a request that carries these callbacks. Undefined if a request carries only one. */
  envelope: ((callbacks: Buffer[]) => Buffer) | undefined
  /** Signs as the provider would and adds configured credentials: for tools that play the provider. */
  sign: (request: OutgoingRequest, options: SignOptions) => OutgoingRequest
  /** This source with each of the provider's other schemes, to find the one that fits a request. */
  alternatives: () => Source[]
  /** How to tell the last event of a call, where the provider documents it. */
  callEnd?: CallEnd | undefined
  /** The part of a parsed payload that belongs to its type. */
  details: (type: string, payload: unknown) => unknown
}

/** One proof of a request, beside the one that a configured secret would have made. Holds no secret. */
export interface ProofExplanation {
  accountId: string
  /** Which of the account's secrets, from 1. */
  secret: number
  algorithm: string
  /** The exact bytes that were signed, secrets masked. */
  signedText: Buffer
  /** The signature that came. */
  presented: string
  /** The signature that should have come; undefined where only the provider can make it (public keys). */
  expected: string | undefined
  matches: boolean
  /** See {@link Proof.hashes}. */
  hashes?: SignedHash[]
}

/** A hash that is signed in place of a part of the request. */
export interface SignedHash {
  /** Its name in what is signed, such as `url_hash`. */
  name: string
  /** As it came; empty where none did. */
  presented: string
  /** The hash of that part as Ringback received it. */
  expected: string
}

/** A request to send, as a provider sends it. Header names are in lower case. */
export interface OutgoingRequest {
  method: Method
  url: string
  headers: Record<string, string>
  body: Buffer
}

export interface SignOptions {
  at: Date
  /** Used instead of the first configured secret; needed where those only verify (public keys). */
  secret?: string | undefined
  /** Signs with a secret that nobody configured. */
  forged?: boolean | undefined
}

/** Where a fact comes from. */
export type Basis = 'documented' | 'observed' | 'assumed' | 'unknown'

export interface Fact {
  text: string
  basis: Basis
}

/** The vendor's documentation says so. */
export const documented = (text: string): Fact => ({ text, basis: 'documented' })
/** Seen by third parties; no promise. */
export const observed = (text: string): Fact => ({ text, basis: 'observed' })
/** No source says it. */
export const assumed = (text: string): Fact => ({ text, basis: 'assumed' })
/** Looked for, and not found. */
export const unknown = (text = 'not documented'): Fact => ({ text, basis: 'unknown' })

/** What people are told about a scheme, by the documentation and by `ringback providers`. */
export interface SchemeFacts {
  /** What arrives by it, such as "Voice callbacks". */
  title: string
  /** Headers that matter, as the provider spells them. */
  headers: string[]
  /** What is signed, and how. */
  signedText: Fact
  /** Which secret it is, and where the provider shows it. */
  secret: Fact
  /** What the proof covers, in words. */
  covers: Fact
  callbackId: Fact
  type: Fact
  occurredAt: Fact
  account: Fact
  callId: Fact
  timeLimit: Fact
  retries: Fact
  answer: Fact
  traps: string[]
}

/** How the provider delivers, for tools that play it. */
export interface DeliveryRule {
  timeoutMs: number
  /** Pauses before each repetition; empty where it never tries again. Shortened ones stand for documented hours. */
  retryDelaysMs: number[]
  /** Whether an answer with this status ends it. */
  isDelivered: (status: number) => boolean
  /** Whether another status is tried again; where it is left out, every one is. */
  isRetried?: (status: number) => boolean
}

/** {@link DeliveryRule.isDelivered} of most providers. */
export const is2xx = (status: number): boolean => status >= 200 && status < 300

/** Key material made from a configured secret. */
export type Key = Buffer | KeyObject

export type Algorithm =
  | 'hmac-md5'
  | 'hmac-sha1'
  | 'hmac-sha256'
  | 'hmac-sha384'
  | 'hmac-sha512'
  /** MD5 over the signed text followed by the secret. */
  | 'md5'
  | 'ed25519'

/** What a request presents to prove itself; any one that holds is enough. */
export interface Proof {
  algorithm: Algorithm
  signed: Buffer
  /** As it came, decoded; empty where it cannot be decoded. */
  signature: Buffer
  /** How the provider writes signatures. */
  encoding: 'hex' | 'base64'
  covers: VerifiedBy
  /** When the request was signed, where the proof covers that. */
  signedAt?: Date
  /** See {@link GenuineCallback.nonces}; only where the proof covers the nonce and not the body. */
  nonce?: string
  /** Why it is refused although its signature holds: it was made for another request, or has expired. */
  problem?: RejectReason | undefined
  /** For operators: hashes that are signed in place of parts of the request. May be left out if they are right. */
  hashes?: SignedHash[]
}

/** How requests are signed. */
export interface Signature {
  /** Makes a key of a configured secret; if left out, its UTF-8 bytes. Throws, showing no value, if it cannot be one. */
  key?: (secret: string) => Key
  /** The proofs that a request presents, or why it presents none that can be read. Never throws. */
  proofs: (message: Message) => Proof[] | RejectReason
  /** Whether the URL is signed, so that the public one must be known. */
  coversUrl?: boolean
  /** Whether its query is signed too. */
  coversQuery?: boolean
  /** How far `signedAt` may be from the time of receipt. Unlimited where it is left out. */
  toleranceSeconds?: number
  /** Headers that carry the signature though they look like credentials, lower case. */
  headers?: string[]
  /**
   * The request with its signature. `secret` is the text from the configuration, or for public keys the private one (its
   * 32 bytes as base64). It must also accept 32 random bytes as base64, with which forgeries are signed.
   */
  sign: (request: OutgoingRequest, secret: string, at: Date) => OutgoingRequest
}

/** One callback as a scheme's `split` finds it, whether its request is genuine or not. */
export type CallbackFound =
  | {
      kind: 'found'
      /** Undefined if only its bytes name it: the same bytes within a window of time are then a repetition. */
      callbackId: string | undefined
      type: string
      callId?: string | undefined
      /** Undefined: the time of receipt. */
      occurredAt?: Date | undefined
      raw: Buffer
      /** See {@link GenuineCallback.payload}. */
      payload?: string | undefined
    }
  | { kind: 'unreadable'; reason: RejectReason; raw: Buffer }

/** An example of a request, from which tools make fresh ones. Texts may hold the placeholders of sample.ts. */
export interface Sample {
  method?: Method
  /** Added to the URL. */
  query?: Record<string, string>
  headers?: Record<string, string>
  /** Sent as application/json, unless `headers` says otherwise. If requests are batches, this is one callback of a batch. */
  json?: unknown
  /** Sent as a form. */
  form?: Record<string, string>
}

/** One way in which a provider calls back, as people and senders know it. */
export interface SchemeProfile {
  facts: SchemeFacts
  methods: readonly Method[]
  /** Makes the body of a request from callbacks, if requests are batches. */
  envelope?: (callbacks: Buffer[]) => Buffer
  delivery: DeliveryRule
  /** By the provider's own word for the event. */
  samples: Record<string, Sample>
}

/** A scheme with what it takes to read requests. */
export interface Scheme extends SchemeProfile {
  /** Left out if requests are not signed: something else, such as a URL token, must then admit them. */
  signature?: Signature
  /** See {@link Source.keptHeaders}; beside those of the signature. */
  keptHeaders?: string[]
  /** See {@link Source.signatureHeader}. */
  signatureHeader?: string | undefined
  /** Takes a request apart, whoever sent it. Never throws. */
  split: (message: Message) => CallbackFound[] | RejectReason
  /** Small JSON where it is left out. */
  answer?: Answer
  /** See {@link Source.callEnd}. */
  callEnd?: CallEnd
  /** See {@link Source.details}; the payload itself where it is left out. */
  details?: Source['details']
}

/** All that is known of a provider; its schemes by name, the usual one first. */
export interface Provider<SchemeName extends string = string, Kind extends SchemeProfile = SchemeProfile> {
  name: string
  title: string
  schemes: Record<SchemeName, Kind>
  sourceAddresses: Fact
  /** Steps, in an order in which no callback is refused on the way. Markdown. */
  setUp: string[]
  /** How the source is written in the configuration, where `preset({ secrets })` is not the usual way. */
  example?: string
  /** The options that only this preset has, each with what it is. Markdown. */
  options?: Record<string, string>
  /** Where the facts come from. */
  references: string[]
}
