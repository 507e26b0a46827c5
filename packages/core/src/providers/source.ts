import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { areValid, configText, configTexts } from '../checked-options.ts'
import type { ConfigText, Resolve, SourceDefinition } from '../config.ts'
import { resolveAccess, secretNumber } from './access.ts'
import type { Access, AccessOptions } from './access.ts'
import { isCallbackId, nameByBytes } from './callback-id.ts'
import { createMessage, isMultipart, queryOf } from './message.ts'
import type { Message } from './message.ts'
import { withoutBoundary } from './multipart.ts'
import { digest, fits, holds, toUnixSeconds } from './proof.ts'
import type {
  Answer,
  CallbackFound,
  GenuineCallback,
  Key,
  Method,
  Proof,
  ProofExplanation,
  Provider,
  Reading,
  RefusedCallback,
  RejectReason,
  Scheme,
  Source,
  VerifiedBy,
} from './provider.ts'

// Makes a source of a provider's schemes and a user's options: what all providers have in common.

/** Options that every source takes. */
export interface CommonOptions extends AccessOptions {
  /** Where this source's URLs begin as the provider calls them, if not at PUBLIC_BASE_URL. */
  publicBaseUrl?: ConfigText
  /** Shadow mode: what would be refused as forged is accepted, with the reason in `events.would_refuse`. */
  shadow?: boolean
  /** What the provider is told when its callbacks are on disk, with status 200. */
  answer?: Answer
}

/** Options of a source whose requests are signed, or could be. */
export interface SourceOptions<SchemeName extends string = string> extends CommonOptions {
  /** Which of the provider's ways of calling back; its usual one where it is left out. */
  scheme?: SchemeName
  /** What the provider signs with; any one of them verifies, so that secrets can be rotated. */
  secrets?: ConfigText | ConfigText[]
  /** Several accounts on one URL: an event then belongs to the one whose secret verified it. */
  accounts?: { accountId: ConfigText; secrets: ConfigText | ConfigText[] }[]
  /**
   * Whether requests without any signature are accepted as well, if they pass the source's other checks. Those must include
   * a secret: a URL token, Basic authentication, a bearer token or a header. A signature that is there must still be right.
   */
  allowUnsigned?: boolean
  /** How old or how far in the future a signature may be, where the scheme signs a time. */
  toleranceSeconds?: number
}

/** {@link CommonOptions}, as the members of a schema. */
export const commonOptions = {
  urlTokens: configTexts.optional(),
  basicAuth: z.strictObject({ username: configText, password: configTexts }).optional(),
  bearerTokens: configTexts.optional(),
  headers: z.record(z.string(), configTexts).optional(),
  addresses: z.array(z.string()).min(1, 'an empty list would refuse every request').optional(),
  publicBaseUrl: configText.optional(),
  shadow: z.boolean().optional(),
  answer: z.strictObject({ contentType: z.string().min(1), body: z.string() }).optional(),
}

/** {@link SourceOptions}, as the members of a schema. */
export const sourceOptions = {
  ...commonOptions,
  scheme: z.string().optional(),
  secrets: configTexts.optional(),
  accounts: z.array(z.strictObject({ accountId: configText, secrets: configTexts })).optional(),
  allowUnsigned: z.boolean().optional(),
  toleranceSeconds: z.number().positive().optional(),
}
const presetOptions = z.strictObject(sourceOptions)

/** What a provider's file exports: a function that makes sources, with the provider's facts. */
export interface Preset<SchemeName extends string = string> {
  (options: SourceOptions<SchemeName>): SourceDefinition
  provider: Provider<SchemeName, Scheme>
}

/** A preset that takes {@link SourceOptions}. */
export function definePreset<SchemeName extends string>(provider: Provider<SchemeName, Scheme>): Preset<SchemeName> {
  const preset = (options: SourceOptions<SchemeName>): SourceDefinition => ({
    provider: provider.name,
    resolve: (resolve) =>
      areValid(presetOptions, options, resolve.problem) ? resolveSource(provider, options, resolve) : undefined,
  })
  return Object.assign(preset, { provider })
}

/** One configured secret. */
interface AccountKey {
  accountId: string
  /** Its place among the secrets of its account, from 1. */
  number: number
  key: Key
  text: string
}

interface Settings {
  provider: Provider<string, Scheme>
  schemeName: string
  scheme: Scheme
  access: Access
  common: Common
  keys: AccountKey[]
  allowUnsigned: boolean
  toleranceSeconds: number | undefined
}

/** Makes the source from options of the right shape. Undefined if their scheme is unknown or none of their values is set. */
export function resolveSource(
  provider: Provider<string, Scheme>,
  options: SourceOptions,
  resolve: Resolve,
): Source | undefined {
  const names = Object.keys(provider.schemes)
  const schemeName = options.scheme ?? names[0]!
  const scheme = names.includes(schemeName) ? provider.schemes[schemeName] : undefined
  if (scheme === undefined) {
    resolve.problem(`${provider.title} has no scheme "${schemeName}"; it has ${names.join(', ')}`)
    return undefined
  }
  const access = resolveAccess(options, resolve)
  const keys = resolveKeys(scheme, options, resolve)
  const { secrets, accounts, urlTokens, basicAuth, bearerTokens, headers } = options
  const hasCredentials = [urlTokens, basicAuth, bearerTokens, headers].some((option) => option !== undefined)
  if (keys.length === 0 && !access.asksForSecret) {
    // Addresses can't be unset as a variable can, so they switch a source on only if it has no option that can.
    if (hasCredentials || secrets !== undefined || accounts !== undefined) return undefined
    if (!access.isRestricted) {
      resolve.problem(`nothing proves a request: give ${scheme.signature ? 'secrets, ' : ''}urlTokens or basicAuth`)
      return undefined
    }
  }
  if (options.allowUnsigned === true && !hasCredentials) {
    resolve.problem('allowUnsigned needs urlTokens, basicAuth, bearerTokens or headers: else anybody could send')
  }
  if (scheme.signature === undefined && keys.length > 0) {
    resolve.problem(`scheme "${schemeName}" has no signature, so it takes no secrets: give urlTokens or basicAuth`)
  }
  if (keys.length > 0 && scheme.signature?.headers?.some((header) => access.headers.includes(header))) {
    resolve.problem(
      'basicAuth and bearerTokens need the header Authorization, in which this scheme signs: use urlTokens',
    )
  }
  const common = resolveCommon(options, resolve, scheme.answer)
  if (needsUrl(scheme, keys) && common.publicBaseUrl === undefined && !resolve.knowsPublicUrl) {
    resolve.problem(
      'the provider signs the URL that it calls, so set PUBLIC_BASE_URL to where that URL begins, such as https://hooks.example.com',
    )
  }
  return createSource({
    provider,
    schemeName,
    scheme,
    access,
    common,
    keys,
    // While the variables of the credentials are unset, anybody could send.
    allowUnsigned: options.allowUnsigned === true && access.asksForSecret,
    toleranceSeconds: options.toleranceSeconds ?? scheme.signature?.toleranceSeconds,
  })
}

function resolveKeys(scheme: Scheme, options: SourceOptions, resolve: Resolve): AccountKey[] {
  const accounts = [
    ...(options.secrets === undefined ? [] : [{ accountId: '', secrets: resolve.optional(options.secrets) }]),
    ...(options.accounts ?? []).flatMap(({ accountId, secrets }) => {
      const found = resolve.allOrNone({ accountId: [accountId], secrets: [secrets].flat() })
      return found === undefined ? [] : [{ accountId: found.accountId[0]!, secrets: found.secrets }]
    }),
  ]
  return accounts.flatMap(({ accountId, secrets }) =>
    secrets.flatMap((text, index) => {
      try {
        return [{ accountId, number: index + 1, text, key: toKey(scheme, text) }]
      } catch (error) {
        resolve.problem(`secret ${index + 1}${accountId === '' ? '' : ' of an account'}: ${(error as Error).message}`)
        return []
      }
    }),
  )
}

const RECEIVED: Answer = { contentType: 'application/json', body: '{"status":"received"}' }

/** {@link CommonOptions} with their values in place, as a source has them. */
export type Common = Pick<Source, 'publicBaseUrl' | 'shadow' | 'answer'>

/** Reads the options that have nothing to do with the provider. */
export function resolveCommon(options: CommonOptions, resolve: Resolve, answer = RECEIVED): Common {
  const [publicBaseUrl] = resolve.optional(options.publicBaseUrl ?? [])
  if (publicBaseUrl !== undefined && !isBaseUrl(publicBaseUrl)) {
    resolve.problem('publicBaseUrl must begin with https:// or http:// and have no query')
  }
  return { publicBaseUrl, shadow: options.shadow ?? false, answer: options.answer ?? answer }
}

/** Whether a text can stand before the paths of callback URLs. */
export function isBaseUrl(text: string): boolean {
  // Checked as it is written: a URL parser overlooks spaces and missing slashes, and paths are added to this very text.
  return /^https?:\/\/[^\s?#]+$/i.test(text) && URL.canParse(text)
}

function createSource(settings: Settings): Source {
  const { provider, schemeName, scheme, access, common, keys } = settings
  const methods: readonly Method[] = scheme.methods
  return {
    ...common,
    provider: provider.name,
    scheme: schemeName,
    methods,
    urlTokens: access.urlTokens,
    usesDemoCredentials: false,
    isSignatureOff: scheme.signature !== undefined && keys.length === 0,
    needsUrl: needsUrl(scheme, keys),
    keptHeaders: [...new Set([...(scheme.signature?.headers ?? []), ...(scheme.keptHeaders ?? [])])],
    signatureHeader: scheme.signatureHeader,
    credentialHeaders: access.headers,
    challenge: access.challenge,
    read: (request, { trust = false } = {}) => read(settings, createMessage(request), trust || common.shadow),
    explain: (request) => explain(settings, createMessage(request)),
    envelope: scheme.envelope,
    sign(request, { at, secret = keys[0]?.text, forged = false }) {
      const authorized = access.authorize(request, forged)
      if (secret === undefined || scheme.signature === undefined) return authorized
      return scheme.signature.sign(authorized, forged ? randomBytes(32).toString('base64') : secret, at)
    },
    alternatives: () =>
      Object.entries(provider.schemes)
        .filter(([name]) => name !== schemeName)
        .flatMap(([name, other]) => withScheme(settings, name, other)),
    callEnd: scheme.callEnd,
    details: scheme.details ?? ((_type, payload) => payload),
  }
}

function needsUrl(scheme: Scheme, keys: AccountKey[]): boolean {
  return scheme.signature?.coversUrl === true && keys.length > 0
}

/** The same source with another scheme; none if its secrets cannot be that scheme's keys. */
function withScheme(settings: Settings, schemeName: string, scheme: Scheme): Source[] {
  if (scheme.signature === undefined && !settings.access.isRestricted) return []
  try {
    const keys = settings.keys.map((own) => ({ ...own, key: toKey(scheme, own.text) }))
    return [
      createSource({ ...settings, schemeName, scheme, keys, toleranceSeconds: scheme.signature?.toleranceSeconds }),
    ]
  } catch {
    return []
  }
}

/** Throws, naming no value, if the text cannot be a key of the scheme. */
function toKey(scheme: Scheme, text: string): Key {
  return scheme.signature?.key?.(text) ?? Buffer.from(text)
}

interface Proven {
  accountId: string
  covers: VerifiedBy
  secret?: number | undefined
  nonces?: string[]
}

type Verdict = ({ ok: true } & Proven) | { ok: false; reason: RejectReason }

function read(settings: Settings, message: Message, takesAll: boolean): Reading {
  // The content of a GET is in its URL, so its body is not kept.
  const body = message.method === 'GET' ? Buffer.alloc(0) : message.body
  const verdict = verify(settings, message)
  if (!verdict.ok && !takesAll) return { kind: 'refused', as: 'forged', reason: verdict.reason, body }
  const found = settings.scheme.split(message)
  if (typeof found === 'string') return { kind: 'refused', as: 'unreadable', reason: found, body }
  const proven: Proven & { wouldRefuse?: RejectReason } = verdict.ok
    ? verdict
    : { accountId: '', covers: 'none', wouldRefuse: verdict.reason }
  return { kind: 'read', callbacks: found.map((callback) => toCallback(settings.scheme, callback, proven, message)) }
}

function toCallback(
  scheme: Scheme,
  found: CallbackFound,
  { accountId, covers, secret, nonces, wouldRefuse }: Proven & { wouldRefuse?: RejectReason },
  message: Message,
): GenuineCallback | RefusedCallback {
  if (found.kind === 'unreadable') return found
  const { callbackId, raw } = found
  const { receivedAt } = message
  if (callbackId !== undefined && !isCallbackId(callbackId)) {
    return { kind: 'unreadable', reason: 'callback_id_unreadable', raw }
  }
  const name =
    callbackId === undefined ? nameByBytes(namingBytes(scheme, raw, message, nonces), receivedAt) : { callbackId }
  return {
    kind: 'genuine',
    accountId,
    ...name,
    type: found.type,
    ...(found.callId !== undefined && { callId: found.callId }),
    occurredAt: isPlausible(found.occurredAt) ? found.occurredAt : receivedAt,
    verifiedBy: covers,
    ...(secret !== undefined && { secret }),
    ...(nonces !== undefined && { nonces }),
    ...(wouldRefuse !== undefined && { wouldRefuse }),
    raw,
    ...(found.payload !== undefined && { payload: found.payload }),
  }
}

/**
 * The bytes that name a callback: its own, and behind them the query of its URL. In two menus the same key makes the same
 * fields, and only the query that each menu was given tells the two apart. A query that the signature leaves out could be
 * anybody's, unless a nonce shows what is sent again; and that of a GET is its own bytes.
 */
function namingBytes({ signature }: Scheme, raw: Buffer, { method, url }: Message, nonces?: string[]): Buffer {
  const own = isMultipart(raw) ? withoutBoundary(raw) : raw
  const isTheSenders = signature === undefined || signature.coversQuery === true || nonces !== undefined
  const query = isTheSenders && method !== 'GET' ? queryOf(url) : ''
  return query === '' ? own : Buffer.concat([own, Buffer.from(`\n${query}`)])
}

/** Whether a time is from 1970 to 2999. Others are typing errors or attacks, and Postgres does not take them all. */
function isPlausible(time: Date | undefined): time is Date {
  const year = time?.getUTCFullYear()
  return year !== undefined && year >= 1970 && year < 3000
}

/** Access first, then the signature; the stronger of the two is what the proof covered. */
function verify({ scheme, access, keys, allowUnsigned, toleranceSeconds }: Settings, message: Message): Verdict {
  const admitted = access.check(message)
  if (!admitted.ok) return admitted
  const unsigned = { ok: true, accountId: '', covers: admitted.covers, secret: secretNumber(access, admitted) } as const
  if (scheme.signature === undefined || keys.length === 0) return unsigned
  const proofs = scheme.signature.proofs(message)
  if (typeof proofs === 'string') {
    if (proofs === 'signature_missing' && allowUnsigned) return unsigned
    return { ok: false, reason: proofs }
  }
  for (const proof of proofs) {
    const match = keys.find(({ key }) => holds(proof, key))
    if (match === undefined) continue
    if (proof.problem !== undefined) return { ok: false, reason: proof.problem }
    if (!isTimely(proof, toleranceSeconds, message.receivedAt)) {
      return { ok: false, reason: 'timestamp_out_of_tolerance' }
    }
    const nonces = noncesOf(proofs, keys)
    return {
      ok: true,
      accountId: match.accountId,
      secret: secretNumber(access, admitted, match.number),
      covers: proof.covers,
      ...(nonces.length > 0 && { nonces }),
    }
  }
  return { ok: false, reason: 'signature_mismatch' }
}

/** The nonces of every proof that holds, not only of the first: any of them could be sent again by itself. */
function noncesOf(proofs: Proof[], keys: AccountKey[]): string[] {
  const held = proofs.filter((proof) => proof.nonce !== undefined && keys.some(({ key }) => holds(proof, key)))
  return [...new Set(held.map(({ nonce }) => nonce!))]
}

/** Compares whole seconds, as providers write times and as their own samples compare them. */
function isTimely({ signedAt }: Proof, toleranceSeconds: number | undefined, receivedAt: Date): boolean {
  if (signedAt === undefined || toleranceSeconds === undefined) return true
  return Math.abs(toUnixSeconds(receivedAt) - toUnixSeconds(signedAt)) <= toleranceSeconds
}

function explain({ scheme, keys }: Settings, message: Message): ProofExplanation[] {
  const proofs = scheme.signature?.proofs(message)
  if (proofs === undefined || typeof proofs === 'string') return []
  return proofs.flatMap((proof) =>
    keys
      .filter(({ key }) => fits(proof, key))
      .map(({ accountId, number, key }) => ({
        accountId,
        secret: number,
        algorithm: proof.algorithm,
        signedText: proof.signed,
        presented: proof.signature.toString(proof.encoding),
        expected:
          proof.algorithm === 'ed25519'
            ? undefined
            : digest(proof.algorithm, key as Buffer, proof.signed).toString(proof.encoding),
        matches: holds(proof, key),
        ...(proof.hashes !== undefined && { hashes: proof.hashes }),
      })),
  )
}
