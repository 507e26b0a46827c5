import { hash, timingSafeEqual } from 'node:crypto'
import type { ConfigText, Resolve, SourceDefinition } from '../config.ts'
import { depthWithin, elementsOf, member, withoutMembers } from '../json-slices.ts'
import type { Slice } from '../json-slices.ts'
import type { GenuineCallback, ProviderRequest, Reading, RefusedCallback, Source } from './provider.ts'

// Voximplant account callbacks: one POST holds {"callbacks": [...]}, and each item proves itself with
// hash = md5(salt + account_id + api_key + callback_id), nothing between the parts. The hash covers only the id, never
// the type, the balance or the payload, and it is valid for ever. Source: Voximplant's article on callbacks, and the
// wire names in @voximplant/apiclient-nodejs.

/** The credentials in Voximplant's samples and in our documentation: public, so never a proof on an open port. */
export const demoCredentials = {
  accountId: '1234567',
  apiKey: '11111111-2222-4333-8444-555555555555',
  salt: 'demo-salt-0001',
} as const satisfies VoximplantCredentials

/** Voximplant's ids have up to 19 digits. What is many times longer is refused rather than indexed. */
const MAX_ID_LENGTH = 128
const MAX_DEPTH = 64
const MD5_HEX = /^[0-9a-f]{32}$/i
const INTEGER = /^-?\d+$/
const COMMA = 0x2c
const CLOSE_BRACE = 0x7d
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const PRINTABLE = /^[^\u0000-\u001f\u007f]+$/

/** Without these nothing could be verified or named. */
const NEEDED_FIELDS = ['callbacks', 'callback_id', 'type', 'account_id', 'hash']

/** Items carry no time of their own; a few payloads do, in UTC, as "YYYY-MM-DD HH:mm:ss". */
const OCCURRED_AT_FIELD = new Map([
  ['account_document_status_updated', 'update_time'],
  ['account_document_uploaded', 'uploaded'],
  ['regulation_address_documents_requested', 'update_time'],
  ['regulation_address_uploaded', 'uploaded'],
  ['sms_inbound', 'receival_date'],
])

/** The secrets of an account, as one callback is signed with them. */
export interface VoximplantCredentials {
  accountId: string
  apiKey: string
  salt: string
}

/** The `hash` that Voximplant puts on a callback: for tools that play Voximplant, and for tests. */
export function signCallbackId({ accountId, apiKey, salt }: VoximplantCredentials, callbackId: string): string {
  return hash('md5', salt + accountId + apiKey + callbackId)
}

/** How one account signs. Every secret may be a list: any of them verifies, so that secrets can be rotated. */
export interface VoximplantAccount {
  accountId: ConfigText
  apiKey: ConfigText | ConfigText[]
  salts: ConfigText | ConfigText[]
}

export interface VoximplantOptions {
  /** The accounts whose callbacks come to this URL. */
  accounts?: VoximplantAccount[]
  /**
   * Secret last parts of the URL, `/callbacks/<source>/<token>`. Beside accounts they are required in addition to the
   * hash; without accounts they are the only proof (`verified_by` is then `secret`), for where no api_key is to be had.
   */
  urlTokens?: ConfigText | ConfigText[]
  /** Names of fields to remove, at any depth, before anything is stored: personal data that must not be kept. */
  dropFields?: string[]
}

/**
 * A source for Voximplant account callbacks. It is off where every value it takes from the environment is unset;
 * `docs/providers.md` describes the set-up.
 */
export function voximplant(options: VoximplantOptions): SourceDefinition {
  return { provider: 'voximplant', resolve: (resolve) => resolveSource(options, resolve) }
}

function resolveSource(options: VoximplantOptions, resolve: Resolve): Source | undefined {
  const urlTokens = resolve.optional(options.urlTokens ?? [])
  const accounts = (options.accounts ?? []).flatMap(({ accountId, apiKey, salts }) => {
    const found = resolve.allOrNone({ accountId: [accountId].flat(), apiKey: [apiKey].flat(), salts: [salts].flat() })
    return found === undefined ? [] : [found]
  })
  if (accounts.length === 0 && urlTokens.length === 0) return undefined
  for (const field of options.dropFields ?? []) {
    if (NEEDED_FIELDS.includes(field))
      resolve.problem(`dropFields may not name "${field}": callbacks are verified and named by it`)
  }
  return createSource({
    accounts: accounts.map(({ accountId, apiKey, salts }) => ({
      accountId: accountId[0]!,
      prefixes: salts.flatMap((salt) => apiKey.map((key) => salt + accountId[0]! + key)),
      isDemo: apiKey.includes(demoCredentials.apiKey),
    })),
    urlTokens,
    dropFields: new Set(options.dropFields),
  })
}

interface Account {
  accountId: string
  /** Everything that is hashed before the callback_id, one for each combination of live secrets. */
  prefixes: string[]
  isDemo: boolean
}

interface Settings {
  accounts: Account[]
  urlTokens: string[]
  dropFields: ReadonlySet<string>
}

function createSource(settings: Settings): Source {
  return {
    provider: 'voximplant',
    methods: ['POST', 'PUT'],
    urlTokens: settings.urlTokens,
    usesDemoCredentials: settings.accounts.some(({ isDemo }) => isDemo),
    read: (request) => read(settings, request),
    details,
  }
}

function read(settings: Settings, { body, receivedAt }: ProviderRequest): Reading {
  const json = withoutByteOrderMark(body)
  const refused = (reason: 'unreadable_body' | 'too_deep'): Reading => ({
    kind: 'refused',
    reason,
    // What cannot be read cannot be searched for fields that must not be kept.
    body: settings.dropFields.size > 0 ? Buffer.alloc(0) : body,
  })
  if (!depthWithin(json, MAX_DEPTH)) return refused('too_deep')
  let parsed: unknown
  try {
    parsed = JSON.parse(json.toString('utf8'))
  } catch {
    return refused('unreadable_body')
  }
  if (!isObject(parsed) || !Array.isArray(parsed.callbacks)) return refused('unreadable_body')
  const items: unknown[] = parsed.callbacks
  return {
    kind: 'read',
    callbacks: elementsOf(json, 'callbacks').map((item, index) =>
      readItem(settings, json, item, items[index], receivedAt),
    ),
  }
}

function readItem(
  settings: Settings,
  json: Buffer,
  slice: Slice,
  item: unknown,
  receivedAt: Date,
): GenuineCallback | RefusedCallback {
  const bytes = json.subarray(slice.start, slice.end)
  const raw = settings.dropFields.size > 0 ? withoutMembers(bytes, settings.dropFields) : bytes
  if (!isObject(item) || item.callback_id === undefined || item.callback_id === null || item.callback_id === '') {
    return { kind: 'unreadable', reason: 'callback_id_missing', raw }
  }
  const callbackId = exactId(json, slice, 'callback_id', item.callback_id)
  if (callbackId === undefined) return { kind: 'unreadable', reason: 'callback_id_unreadable', raw }
  // Only compared with the configured ones: where it is exact as a number, its spelling does not matter.
  const bodyAccountId = Number.isSafeInteger(item.account_id)
    ? String(item.account_id)
    : exactId(json, slice, 'account_id', item.account_id)
  const verdict = verify(settings.accounts, { callbackId, hash: item.hash, bodyAccountId })
  if (!verdict.ok) return { kind: 'forged', reason: verdict.reason, callbackId, raw }
  const type = typeof item.type === 'string' ? item.type : ''
  const callId = readCallId(json, slice, type, item)
  return {
    kind: 'genuine',
    accountId: verdict.accountId,
    callbackId,
    type,
    ...(callId !== undefined && { callId }),
    occurredAt: readOccurredAt(type, item) ?? receivedAt,
    verifiedBy: settings.accounts.length > 0 ? 'id' : 'secret',
    raw,
  }
}

type Verdict =
  | { ok: true; accountId: string }
  | { ok: false; reason: 'hash_missing' | 'hash_mismatch' | 'account_mismatch' }

/** `bodyAccountId` only narrows the choice of accounts: it is never hashed, for a forger could write it. */
function verify(
  accounts: Account[],
  {
    callbackId,
    hash: claimed,
    bodyAccountId,
  }: { callbackId: string; hash: unknown; bodyAccountId: string | undefined },
): Verdict {
  // Without api_key nothing can be hashed: the URL token, checked before, is the proof. Whoever knows it also says
  // which account the callback is about, and two accounts may count their callbacks alike.
  if (accounts.length === 0) return { ok: true, accountId: bodyAccountId ?? '' }
  if (typeof claimed !== 'string' || claimed === '') return { ok: false, reason: 'hash_missing' }
  if (!MD5_HEX.test(claimed)) return { ok: false, reason: 'hash_mismatch' }
  const digest = Buffer.from(claimed, 'hex')
  const verified = accounts.filter(({ prefixes }) =>
    prefixes.some((prefix) => timingSafeEqual(hash('md5', prefix + callbackId, 'buffer'), digest)),
  )
  if (verified.length === 0) return { ok: false, reason: 'hash_mismatch' }
  // The parts are hashed without separators, so one hash can fit two accounts: the body then says which it is.
  const account = verified.find(({ accountId }) => bodyAccountId === undefined || bodyAccountId === accountId)
  return account === undefined ? { ok: false, reason: 'account_mismatch' } : { ok: true, accountId: account.accountId }
}

/**
 * An id as text with every digit: Voximplant's ids are 64-bit numbers, which JSON.parse would round. A string of the
 * same digits is the same id. Undefined for what is no id: a fraction, an exponent, anything but a number or a string.
 */
function exactId(json: Buffer, slice: Slice, key: string, value: unknown): string | undefined {
  if (typeof value === 'string')
    return value.length <= MAX_ID_LENGTH && value.isWellFormed() && PRINTABLE.test(value) ? value : undefined
  if (typeof value !== 'number') return undefined
  if (Number.isSafeInteger(value) && isWritten(json, slice, `"${key}":${value}`)) return String(value)
  const found = member(json, slice, key)!
  const digits = json.toString('latin1', found.start, found.end)
  return digits.length <= MAX_ID_LENGTH && INTEGER.test(digits) ? digits : undefined
}

/** Whether these very characters, and nothing that would make another number of them, stand in the slice. */
function isWritten(json: Buffer, slice: Slice, text: string): boolean {
  const at = json.indexOf(text, slice.start, 'latin1')
  const next = json[at + text.length]
  return at !== -1 && at < slice.end && (next === COMMA || next === CLOSE_BRACE)
}

function readCallId(json: Buffer, slice: Slice, type: string, item: Record<string, unknown>): string | undefined {
  if (type !== 'transcription_complete') return undefined
  const outer = member(json, slice, type)
  const nested = outer && member(json, outer, type)
  const inner = details(type, item)
  const holder = nested ?? outer
  if (holder === undefined || !isObject(inner) || inner.call_session_history_id === undefined) return undefined
  return exactId(json, holder, 'call_session_history_id', inner.call_session_history_id)
}

function readOccurredAt(type: string, item: Record<string, unknown>): Date | undefined {
  const field = OCCURRED_AT_FIELD.get(type)
  const inner = field && details(type, item)
  const text = field && isObject(inner) ? inner[field] : undefined
  const parts = typeof text === 'string' ? /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)$/.exec(text) : null
  const time = parts && new Date(`${parts[1]}T${parts[2]}Z`)
  return time && !Number.isNaN(time.getTime()) ? time : undefined
}

/** Voximplant documents some payloads one level deeper than they have been seen: `sms_inbound.sms_inbound`. */
function details(type: string, payload: unknown): unknown {
  if (!isObject(payload) || !Object.hasOwn(payload, type)) return undefined
  const outer = payload[type]
  return isObject(outer) && Object.hasOwn(outer, type) ? outer[type] : outer
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Some HTTP clients put a byte order mark before JSON; JSON.parse takes none. */
function withoutByteOrderMark(body: Buffer): Buffer {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body
}
