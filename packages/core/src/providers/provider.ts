// What a provider is to the rest of Ringback: a way to take one request apart and to say which of its callbacks are
// genuine. Each preset is one file beside this one.

/** What the proof of a callback covered, from strongest to weakest; the column `events.verified_by`. */
export type VerifiedBy = 'body' | 'url' | 'id' | 'secret' | 'none'

/** Why a request or a callback was refused; the column `quarantine.reason`. */
export type RejectReason =
  | 'unreadable_body'
  | 'too_deep'
  | 'callback_id_missing'
  | 'callback_id_unreadable'
  | 'hash_missing'
  | 'hash_mismatch'
  | 'account_mismatch'

/** One HTTP request as it came; `read` must take nothing from anywhere else. */
export interface ProviderRequest {
  method: string
  /** The bytes as they came. */
  body: Buffer
  /** A header by its lower-case name. */
  header: (name: string) => string | undefined
  receivedAt: Date
}

/** A callback that its provider really sent. */
export interface GenuineCallback {
  kind: 'genuine'
  /** The configured account whose secret verified it, or empty. */
  accountId: string
  /** Names the callback within its source and account. */
  callbackId: string
  /** The provider's own word for it; empty where there is none. */
  type: string
  callId?: string
  /** When the provider says it happened; the time of receipt where it says nothing. */
  occurredAt: Date
  verifiedBy: VerifiedBy
  /** The callback's own bytes: an exact slice of the request, save for fields that the configuration drops. */
  raw: Buffer
}

/** A callback that is not taken: forged, or not readable as this provider's. It goes to quarantine. */
export interface RefusedCallback {
  kind: 'forged' | 'unreadable'
  reason: RejectReason
  callbackId?: string
  raw: Buffer
}

/** What a request holds. `refused` concerns the request as a whole: nothing in it could be read. */
export type Reading =
  | { kind: 'read'; callbacks: (GenuineCallback | RefusedCallback)[] }
  | { kind: 'refused'; reason: RejectReason; body: Buffer }

/** A configured connection to a provider, ready to read requests. Holds secrets: never log one. */
export interface Source {
  provider: string
  methods: readonly ('GET' | 'POST' | 'PUT')[]
  /** Where any are given, the URL must end in one of them; another or none is answered 404. */
  urlTokens: readonly string[]
  /** Whether any of its secrets is one that this repository publishes. */
  usesDemoCredentials: boolean
  /** Verifies and splits. Pure; never throws, whatever the bytes. */
  read: (request: ProviderRequest) => Reading
  /** Where the provider's types have their own data inside the payload. Gets what the provider sent, parsed. */
  details: (type: string, payload: unknown) => unknown
}
