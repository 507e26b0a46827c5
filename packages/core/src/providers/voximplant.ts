import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { areValid, configText, configTexts } from '../checked-options.ts'
import type { ConfigText, Resolve, SourceDefinition } from '../config.ts'
import { isObject } from '../is-object.ts'
import { depthWithin, elementsOf, member, withoutMembers } from '../json-slices.ts'
import type { Element, Slice } from '../json-slices.ts'
import { resolveAccess, secretNumber } from './access.ts'
import type { Access } from './access.ts'
import { isCallbackId } from './callback-id.ts'
import { envelopeAt, MAX_CALLBACKS, MAX_DEPTH, withoutByteOrderMark } from './message.ts'
import { fromIsoTime } from './proof.ts'
import { documented, unknown } from './provider.ts'
import type {
  GenuineCallback,
  OutgoingRequest,
  ProofExplanation,
  Provider,
  ProviderRequest,
  Reading,
  RefusedCallback,
  RejectReason,
  SignOptions,
  Source,
} from './provider.ts'
import samples from './samples/voximplant.json' with { type: 'json' }
import { commonOptions, resolveCommon } from './source.ts'
import type { Common, CommonOptions } from './source.ts'

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
/** How deep a whole request may nest: more than a callback may, so that one too deep does not cost the others. */
const MAX_REQUEST_DEPTH = 1000
const MD5_HEX = /^[0-9a-f]{32}$/i
const INTEGER = /^(?:0|-?[1-9]\d*)$/

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

export interface VoximplantOptions extends CommonOptions {
  /**
   * The accounts whose callbacks come to this URL. Leave them out if you cannot get an api_key: the source's other checks (a
   * URL token, Basic authentication) are then the only proof, and `verified_by` is `secret`.
   */
  accounts?: VoximplantAccount[]
  /** Names of fields to remove, at any depth, before anything is stored: personal data that must not be kept. */
  dropFields?: string[]
}

const schema = z.strictObject({
  ...commonOptions,
  accounts: z.array(z.strictObject({ accountId: configText, apiKey: configTexts, salts: configTexts })).optional(),
  dropFields: z.array(z.string()).optional(),
})

/**
 * A source for Voximplant account callbacks. It is off where every value it takes from the environment is unset;
 * `docs/providers.md` describes the set-up.
 */
function defineSource(options: VoximplantOptions): SourceDefinition {
  return { provider: 'voximplant', resolve: (resolve) => resolveSource(options, resolve) }
}

function resolveSource(options: VoximplantOptions, resolve: Resolve): Source | undefined {
  if (!areValid(schema, options, resolve.problem)) return undefined
  const access = resolveAccess(options, resolve)
  const accounts = (options.accounts ?? []).flatMap(({ accountId, apiKey, salts }) => {
    // An account may have no salt: the key alone is then what nobody else knows.
    const written = [salts].flat().filter((salt) => salt !== '')
    const hasEmpty = [salts].flat().includes('')
    const needed = { accountId: [accountId], apiKey: [apiKey].flat() }
    const found: { accountId: string[]; apiKey: string[]; salts?: string[] } | undefined =
      written.length === 0 && hasEmpty ? resolve.allOrNone(needed) : resolve.allOrNone({ ...needed, salts: written })
    return found === undefined ? [] : [{ ...found, salts: [...(found.salts ?? []), ...(hasEmpty ? [''] : [])] }]
  })
  if (accounts.length === 0 && !access.asksForSecret) return undefined
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
    access,
    common: resolveCommon(options, resolve),
    dropFields: new Set(options.dropFields),
  })
}

interface Account {
  accountId: string
  /** All that is hashed before the callback_id, for each combination of live secrets. */
  prefixes: string[]
  isDemo: boolean
}

interface Settings {
  accounts: Account[]
  access: Access
  common: Common
  dropFields: ReadonlySet<string>
}

function createSource(settings: Settings): Source {
  return {
    ...settings.common,
    provider: 'voximplant',
    scheme: 'account',
    methods: ['POST'],
    urlTokens: settings.access.urlTokens,
    usesDemoCredentials: settings.accounts.some(({ isDemo }) => isDemo),
    isSignatureOff: settings.accounts.length === 0,
    needsUrl: false,
    keptHeaders: [],
    credentialHeaders: settings.access.headers,
    challenge: settings.access.challenge,
    read: (request, { trust = false } = {}) =>
      read(trust ? { ...settings, common: { ...settings.common, shadow: true } } : settings, request),
    explain: (request) => explain(settings, request),
    envelope,
    sign: (request, options) => sign(settings, request, options),
    alternatives: () => [],
    details,
  }
}

const envelope = (callbacks: Buffer[]) => envelopeAt(['callbacks'], callbacks)

function read(settings: Settings, request: ProviderRequest): Reading {
  const { body, receivedAt } = request
  const json = withoutByteOrderMark(body)
  const refused = (as: 'forged' | 'unreadable', reason: RejectReason): Reading => ({
    kind: 'refused',
    as,
    reason,
    // A body that cannot be read cannot be searched for the fields that must not be kept.
    body: settings.dropFields.size > 0 ? Buffer.alloc(0) : body,
  })
  const admitted = settings.access.check(request)
  if (!admitted.ok && !settings.common.shadow) return refused('forged', admitted.reason)
  // Nearly all requests nest no deeper than one callback may, and are then looked through only once.
  const isDeep = !depthWithin(json, MAX_DEPTH)
  if (isDeep && !depthWithin(json, MAX_REQUEST_DEPTH)) return refused('unreadable', 'too_deep')
  let parsed: unknown
  try {
    parsed = JSON.parse(json.toString('utf8'))
  } catch {
    return refused('unreadable', 'unreadable_body')
  }
  if (!isObject(parsed) || !Array.isArray(parsed.callbacks)) return refused('unreadable', 'unreadable_body')
  const items: unknown[] = parsed.callbacks
  if (items.length > MAX_CALLBACKS) return refused('unreadable', 'too_many_callbacks')
  const callbacks = elementsOf(json, 'callbacks', 'callback_id').map((item, index) =>
    isDeep && !depthWithin(json.subarray(item.start, item.end), MAX_DEPTH)
      ? tooDeep(settings, json, item)
      : readItem(settings, json, item, items[index], { receivedAt, admitted }),
  )
  return {
    kind: 'read',
    callbacks: admitted.ok
      ? callbacks
      : callbacks.map((callback) =>
          callback.kind === 'genuine' ? { ...callback, verifiedBy: 'none', wouldRefuse: admitted.reason } : callback,
        ),
  }
}

function tooDeep({ dropFields }: Settings, json: Buffer, { start, end }: Slice): RefusedCallback {
  // To search it for the fields takes a pass for each level.
  const raw = dropFields.size > 0 ? Buffer.alloc(0) : json.subarray(start, end)
  return { kind: 'unreadable', reason: 'too_deep', raw }
}

function readItem(
  settings: Settings,
  json: Buffer,
  slice: Element,
  item: unknown,
  { receivedAt, admitted }: { receivedAt: Date; admitted: ReturnType<Access['check']> },
): GenuineCallback | RefusedCallback {
  const bytes = json.subarray(slice.start, slice.end)
  const raw = settings.dropFields.size > 0 ? withoutMembers(bytes, settings.dropFields) : bytes
  if (!isObject(item) || item.callback_id === undefined || item.callback_id === null || item.callback_id === '') {
    return { kind: 'unreadable', reason: 'callback_id_missing', raw }
  }
  const callbackId = exactId(json, slice.member, item.callback_id)
  if (callbackId === undefined) return { kind: 'unreadable', reason: 'callback_id_unreadable', raw }
  const bodyAccountId = readAccountId(json, slice, item.account_id)
  const verdict = verify(settings, admitted, { callbackId, hash: item.hash, bodyAccountId })
  if (!verdict.ok && !settings.common.shadow) return { kind: 'forged', reason: verdict.reason, callbackId, raw }
  const type = typeof item.type === 'string' ? item.type : ''
  // What is dropped may not stay in a column either.
  const kept = raw === bytes ? item : (JSON.parse(raw.toString('utf8')) as Record<string, unknown>)
  const callId = readCallId(raw, { start: 0, end: raw.length }, type, kept)
  return {
    kind: 'genuine',
    ...(verdict.ok ? verdict.proven : { accountId: '', verifiedBy: 'none' as const, wouldRefuse: verdict.reason }),
    callbackId,
    type,
    ...(callId !== undefined && { callId }),
    occurredAt: readOccurredAt(type, kept) ?? receivedAt,
    raw,
  }
}

/** The account that a callback names. Undefined if it names none; empty, which matches no account, if it cannot be read. */
function readAccountId(json: Buffer, slice: Slice, value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  // However an exact number is spelt, it is the same account.
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  return exactId(json, member(json, slice, 'account_id'), value) ?? ''
}

type Verdict =
  | { ok: true; proven: Pick<GenuineCallback, 'accountId' | 'verifiedBy' | 'secret'> }
  | { ok: false; reason: 'hash_missing' | 'hash_mismatch' | 'account_mismatch' }

/** `bodyAccountId` only narrows the choice of accounts: it is never hashed, for a forger could write it. */
function verify(
  { accounts, access }: Settings,
  admitted: ReturnType<Access['check']>,
  {
    callbackId,
    hash: claimed,
    bodyAccountId,
  }: { callbackId: string; hash: unknown; bodyAccountId: string | undefined },
): Verdict {
  const secret = (signatureNumber?: number) =>
    admitted.ok ? secretNumber(access, admitted, signatureNumber) : undefined
  // Without api_key nothing can be hashed: the URL token, checked before, is the proof. Whoever knows it also says
  // which account the callback is about, and two accounts may count their callbacks alike.
  if (accounts.length === 0) {
    return { ok: true, proven: { accountId: bodyAccountId ?? '', verifiedBy: 'secret', secret: secret() } }
  }
  if (typeof claimed !== 'string' || claimed === '') return { ok: false, reason: 'hash_missing' }
  if (!MD5_HEX.test(claimed)) return { ok: false, reason: 'hash_mismatch' }
  let isVerified = false
  for (const { accountId, prefixes } of accounts) {
    const index = prefixes.findIndex((prefix) => isSameHash(hash('md5', prefix + callbackId), claimed))
    if (index === -1) continue
    isVerified = true
    // The parts are hashed without separators, so one hash can fit two accounts: the body then says which it is.
    if (bodyAccountId === undefined || bodyAccountId === accountId) {
      return { ok: true, proven: { accountId, verifiedBy: 'id', secret: secret(index + 1) } }
    }
  }
  return { ok: false, reason: isVerified ? 'account_mismatch' : 'hash_mismatch' }
}

const expectedBytes = Buffer.alloc(32)
const claimedBytes = Buffer.alloc(32)

/** Compares two MD5 hashes in hexadecimal, in constant time. Every callback does, so the buffers are made once. */
function isSameHash(expected: string, claimed: string): boolean {
  expectedBytes.write(expected, 'latin1')
  claimedBytes.write(claimed.toLowerCase(), 'latin1')
  return timingSafeEqual(expectedBytes, claimedBytes)
}

/** Both secrets are part of what is hashed, so they are masked. */
function explain({ accounts }: Settings, { body }: ProviderRequest): ProofExplanation[] {
  const json = withoutByteOrderMark(body)
  return elementsOf(json, 'callbacks').flatMap((slice) => {
    const callbackId = member(json, slice, 'callback_id')
    const claimed = member(json, slice, 'hash')
    if (callbackId === undefined) return []
    const id = unquoted(json, callbackId)
    const presented = claimed === undefined ? '' : unquoted(json, claimed)
    return accounts.flatMap(({ accountId, prefixes }) =>
      prefixes.map((prefix, index) => {
        const expected = hash('md5', prefix + id)
        return {
          accountId,
          secret: index + 1,
          algorithm: 'md5',
          signedText: Buffer.from(`<salt>${accountId}<api_key>${id}`),
          presented,
          expected,
          matches: presented.toLowerCase() === expected,
        }
      }),
    )
  })
}

function unquoted(json: Buffer, { start, end }: Slice): string {
  return json.toString('utf8', start, end).replace(/^"(.*)"$/s, '$1')
}

/** Fills in the first account's id and hash where a callback has members `account_id` and `hash`, in this order. */
function sign(
  { accounts, access }: Settings,
  request: OutgoingRequest,
  { secret, forged = false }: SignOptions,
): OutgoingRequest {
  const authorized = access.authorize(request, forged)
  const account = accounts[0]
  if (account === undefined) return authorized
  const prefix = forged ? randomBytes(32).toString('base64') : (secret ?? account.prefixes[0]!)
  const { body } = authorized
  let signed = ''
  let at = 0
  for (const slice of elementsOf(body, 'callbacks')) {
    const places = ['callback_id', 'account_id', 'hash'].map((key) => member(body, slice, key))
    const [id, accountPlace, hashPlace] = places
    if (id === undefined || accountPlace === undefined || hashPlace === undefined) continue
    signed += body.toString('latin1', at, accountPlace.start) + account.accountId
    signed += body.toString('latin1', accountPlace.end, hashPlace.start)
    signed += `"${hash('md5', prefix + unquoted(body, id))}"`
    at = hashPlace.end
  }
  return { ...authorized, body: Buffer.from(signed + body.toString('latin1', at), 'latin1') }
}

/**
 * An id as text with every digit: Voximplant's ids are 64-bit numbers, which JSON.parse would round. A string of the same
 * digits is the same id. `place` is where the value is written. Undefined for what is no id: a fraction, an exponent,
 * anything but a number or a string.
 */
function exactId(json: Buffer, place: Slice | undefined, value: unknown): string | undefined {
  if (typeof value === 'string') return value.length <= MAX_ID_LENGTH && isCallbackId(value) ? value : undefined
  if (typeof value !== 'number' || place === undefined) return undefined
  const digits = json.toString('latin1', place.start, place.end)
  return digits.length <= MAX_ID_LENGTH && INTEGER.test(digits) ? digits : undefined
}

function readCallId(json: Buffer, slice: Slice, type: string, item: Record<string, unknown>): string | undefined {
  if (type !== 'transcription_complete') return undefined
  const outer = member(json, slice, type)
  const nested = outer && member(json, outer, type)
  const inner = details(type, item)
  const holder = nested ?? outer
  if (holder === undefined || !isObject(inner) || inner.call_session_history_id === undefined) return undefined
  const place = member(json, holder, 'call_session_history_id')
  return exactId(json, place, inner.call_session_history_id)
}

function readOccurredAt(type: string, item: Record<string, unknown>): Date | undefined {
  const field = OCCURRED_AT_FIELD.get(type)
  const inner = field && details(type, item)
  const text = field && isObject(inner) ? inner[field] : undefined
  const parts = typeof text === 'string' ? /^((?:19[7-9]|2\d\d)\d-\d\d-\d\d) (\d\d:\d\d:\d\d)$/.exec(text) : null
  return parts ? fromIsoTime(`${parts[1]}T${parts[2]}Z`) : undefined
}

/** Voximplant documents some payloads one level deeper than they have been seen: `sms_inbound.sms_inbound`. */
function details(type: string, payload: unknown): unknown {
  if (!isObject(payload) || !Object.hasOwn(payload, type)) return undefined
  const outer = payload[type]
  return isObject(outer) && Object.hasOwn(outer, type) ? outer[type] : outer
}

/** Sources for Voximplant. It signs each callback of a request by itself, so only some of a request may be forged. */
export const voximplant = Object.assign(defineSource, {
  provider: {
    name: 'voximplant',
    title: 'Voximplant',
    schemes: {
      account: {
        facts: {
          title: 'Account callbacks',
          headers: [],
          signedText: documented(
            'each callback by itself: `hash` is the MD5, in hex, of salt, account_id, api_key and callback_id with nothing between them',
          ),
          secret: documented(
            'the salt entered with the URL, and the account’s api_key, which is not shown to accounts that log in with service accounts only',
          ),
          covers: documented(
            'only the callback_id, not the type, the balance or the payload; there is no time, so it is valid for ever',
          ),
          callbackId: documented('`callback_id`, a 64-bit number, kept as text with every digit'),
          type: documented('`type`'),
          occurredAt: documented(
            'the time of receipt, except for the few payloads with a time of their own (`update_time`, `uploaded`, and `receival_date`, which is not documented but was seen by others)',
          ),
          account: documented('`account_id` of the configured account whose secrets made the hash'),
          callId: documented('`call_session_history_id` of transcription_complete'),
          timeLimit: unknown(),
          retries: unknown(),
          answer: documented('200; the effect of another status is not documented'),
          traps: [
            "Every callback carries the name and e-mail address of the account: `dropFields: ['account_email', 'account_first_name', 'account_last_name', 'sms_body']` removes such fields at any depth, from `payload` and from `raw`, before anything reaches the queue. With `dropFields`, only the reason is kept of a body that cannot be read.",
            'Anybody who sees a callback can send its id again with other content. Ringback keeps the first and shows the other as a *changed* duplicate. Do not let a handler move money on such an event; ask Voximplant’s API.',
            'One page of the documentation says that each request has a field `salt` with the MD5. All other pages, and the sample, have `hash` on each callback. Ringback reads `hash` and ignores `salt`.',
            "Whether callbacks have a hash if no salt is set is not documented. An empty salt (`salts: ['']`) is assumed to be hashed as an empty text.",
            'Neither whether an id is unique beyond its account nor whether a callback is repeated is documented. Therefore the name includes the account, and repetitions are expected.',
            'The article spells the id with a Cyrillic letter, `сallbackId`; senders write `callback_id`.',
            'By the vendor’s definitions some payloads are one level deeper than others (`sms_inbound.sms_inbound`), while a public receiver reads one level. Both are accepted, and a handler’s `event.details` is the inner object either way.',
            'One request holds one or several callbacks; each is verified, named and stored by itself.',
          ],
        },
        methods: ['POST'],
        envelope,
        delivery: { timeoutMs: 10_000, retryDelaysMs: [], isDelivered: (status) => status === 200 },
        samples: Object.fromEntries(
          Object.entries(samples).map(([type, payload]) => [type, { json: sampleItem(type, payload) }]),
        ),
      },
    },
    example: `voximplant: voximplant({
  accounts: [{ accountId: env('VOXIMPLANT_ACCOUNT_ID'), apiKey: env('VOXIMPLANT_API_KEY'), salts: [env('VOXIMPLANT_SALT')] }],
}),`,
    options: {
      accounts:
        '`[{ accountId, apiKey, salts }]`: several accounts on one URL. They replace `secrets`. There is no `scheme`, `allowUnsigned` or `toleranceSeconds`.',
      dropFields: 'names of fields, such as personal data, that are removed at any depth before anything is stored',
    },
    sourceAddresses: unknown('no list is published for callbacks'),
    setUp: [
      'Choose a salt, shorter than 40 characters (the control panel and the API disagree about 40 itself).',
      'Give Ringback `VOXIMPLANT_ACCOUNT_ID`, `VOXIMPLANT_API_KEY` and `VOXIMPLANT_SALT`, and restart it.',
      'In the control panel, Webhooks, enter `https://your.host/callbacks/voximplant` and the salt. (Or `callback_url` and `callback_salt` of SetAccountInfo.) The panel may call the URL by GET; the answer is 200.',
      'Without an api_key, set only `VOXIMPLANT_URL_TOKEN` to a long random text (`openssl rand -hex 24`) and enter `https://your.host/callbacks/voximplant/<token>`.',
    ],
    references: [
      'Voximplant’s article on HTTP API callbacks',
      '@voximplant/apiclient-nodejs: wire names and meanings of all fields',
      'voximplant.com/docs/references/httpapi/accountcallback',
    ],
  } satisfies Provider,
})

function sampleItem(type: string, payload: unknown) {
  return {
    callback_id: '{{number:sequence}}',
    type,
    account_id: 1234567,
    hash: '',
    account_name: 'demo-account',
    account_email: 'owner@example.test',
    language_code: 'en',
    account_first_name: 'Dana',
    account_last_name: 'Demo',
    balance: 4.99,
    currency: 'USD',
    [type]: payload,
  }
}
