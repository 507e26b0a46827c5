import { z } from 'zod'
import { areValid, HEADER_NAME } from '../checked-options.ts'
import type { Resolve, SourceDefinition } from '../config.ts'
import { composeCallbackId } from './callback-id.ts'
import { elementsAtPointer, parsePointer, textAtPointer } from './json-pointer.ts'
import { envelopeAt, jsonContent } from './message.ts'
import type { Content, Json, Message } from './message.ts'
import {
  digest,
  ED25519_PUBLIC,
  ed25519PublicKey,
  fromAnyBase64,
  fromBase64,
  fromHex,
  fromIsoTime,
  fromUnixSeconds,
  signEd25519,
  toUnixSeconds,
} from './proof.ts'
import { assumed, documented, is2xx, unknown } from './provider.ts'
import type {
  Algorithm,
  CallbackFound,
  Key,
  Method,
  OutgoingRequest,
  Proof,
  Provider,
  RejectReason,
  Scheme,
  Signature,
  Source,
  VerifiedBy,
} from './provider.ts'
import { parseSignedText } from './signed-text.ts'
import type { SignedText } from './signed-text.ts'
import { resolveSource, sourceOptions } from './source.ts'
import type { SourceOptions } from './source.ts'

// A provider that nobody wrote a preset for, described in the configuration.

/** Where a text stands in a request. Of a batch, `json` and `field` are looked up in each callback. */
export type Selector =
  /** JSON pointer (RFC 6901), such as "/data/id". */
  | { json: string }
  | { header: string }
  /** A field of the form, of a GET its query, or of the JSON object. */
  | { field: string }

/** How a time is written: seconds or milliseconds since 1970, or ISO 8601 with its zone. */
export type TimeFormat = 'unix' | 'unix-ms' | 'iso'

/** How a provider signs. */
export interface GenericSignature {
  algorithm: Algorithm
  /** The header that carries it. */
  header: string
  /** Base64 of either alphabet, padded or not. */
  encoding: 'hex' | 'base64'
  /** What stands before each signature, such as "sha256=". What begins otherwise is passed over. */
  prefix?: string
  /** What separates several entries in the header, such as "," or " ". */
  separator?: string
  /**
   * What is signed: a template over {body}, {timestamp}, {url}, {path}, {method}, {header:Name} and hashes of the body such
   * as {sha256hex:body}, {sha256base64:body} and {sha256:body} (the raw bytes). "{{" and "}}" are braces.
   */
  text: string
  /** When it was signed; `toleranceSeconds`, 300 if left out, says how far that may be from now. */
  timestamp?: {
    header: string
    format: TimeFormat
    /** As for the signature, where the time is one of several entries of its header. */
    prefix?: string
    separator?: string
  }
  /** How the secret's bytes are written; base64 for the public key of Ed25519, else text, if left out. */
  secretEncoding?: 'text' | 'hex' | 'base64'
}

/** All that describes a provider, and a source's usual options. */
export interface GenericOptions extends Omit<SourceOptions, 'scheme'> {
  /** POST if left out. */
  methods?: Method[]
  signature?: GenericSignature
  /** Names a callback; of a list, all together. Where it is left out, its bytes do, within ten minutes. */
  callbackId?: Selector | Selector[]
  /** The provider's word for the event; of a list, joined by "."; a text is the type of all. */
  type?: Selector | Selector[] | string
  /** When it happened. Where no format is given, it is told by how the time looks. */
  occurredAt?: Selector & { format?: TimeFormat }
  callId?: Selector
  /** JSON pointer to the array of callbacks in a request; "" is the document itself. */
  batch?: string
}

/** What the preset is to documentation and tools. */
export interface GenericPreset {
  (options: GenericOptions): SourceDefinition
  provider: Provider<'configured', Scheme>
}

const ALGORITHMS = ['hmac-md5', 'hmac-sha1', 'hmac-sha256', 'hmac-sha384', 'hmac-sha512', 'md5', 'ed25519'] as const
const DEFAULT_TOLERANCE_SECONDS = 300
/** Each entry costs a hash of the body and every secret, and rotation needs two. */
const MAX_SIGNATURES = 10
const MAX_ENTRIES = 100

const headerName = z.string().regex(HEADER_NAME, 'must be the name of a header')
const pointer = z
  .string()
  .refine((text) => parsePointer(text) !== undefined, 'must be a JSON pointer such as "/data/id" (RFC 6901)')
const format = z.enum(['unix', 'unix-ms', 'iso'])
const separator = z.string().min(1).optional()
const selectorKinds = { json: pointer.optional(), header: headerName.optional(), field: z.string().min(1).optional() }
const isOneKind = ({ json, header, field }: { json?: unknown; header?: unknown; field?: unknown }) =>
  [json, header, field].filter((kind) => kind !== undefined).length === 1
const ONE_KIND = "must be one of { json: '/pointer' }, { header: 'Name' } and { field: 'name' }"
const selector = z.strictObject(selectorKinds).refine(isOneKind, ONE_KIND)

/** A list where one selector would do as well: unlike a union, it says what exactly is wrong. */
const selectors = z.preprocess(
  (value) => (value === undefined ? undefined : [value].flat()),
  z.array(selector).min(1).optional(),
)

const { scheme: _scheme, ...usualOptions } = sourceOptions
const schema = z.strictObject({
  ...usualOptions,
  methods: z
    .array(z.enum(['GET', 'POST', 'PUT']))
    .min(1)
    .optional(),
  signature: z
    .strictObject({
      algorithm: z.enum(ALGORITHMS),
      header: headerName,
      encoding: z.enum(['hex', 'base64']),
      prefix: z.string().optional(),
      separator,
      text: z.string(),
      timestamp: z.strictObject({ header: headerName, format, prefix: z.string().optional(), separator }).optional(),
      secretEncoding: z.enum(['text', 'hex', 'base64']).optional(),
    })
    .optional(),
  callbackId: selectors,
  type: z.preprocess((value) => (typeof value === 'string' ? undefined : value), selectors),
  occurredAt: z
    .strictObject({ ...selectorKinds, format: format.optional() })
    .refine(isOneKind, ONE_KIND)
    .optional(),
  callId: selector.optional(),
  batch: pointer.optional(),
})

function createGeneric(options: GenericOptions): SourceDefinition {
  return { provider: 'generic', resolve: (resolve) => resolveGeneric(options, resolve) }
}

function resolveGeneric(options: GenericOptions, resolve: Resolve): Source | undefined {
  if (!areValid(schema, options, resolve.problem)) return undefined
  const text = options.signature && parseSignedText(options.signature.text)
  if (text !== undefined && 'problem' in text) {
    resolve.problem(`signature.text ${text.problem}`)
    return undefined
  }
  const problems = contradictions(options, text)
  problems.forEach(resolve.problem)
  if (problems.length > 0) return undefined
  const source = resolveSource(
    { ...provider, schemes: { configured: createScheme(options, text) } },
    {
      ...options,
      ...(options.signature?.timestamp && { toleranceSeconds: options.toleranceSeconds ?? DEFAULT_TOLERANCE_SECONDS }),
    },
    resolve,
  )
  // Else whoever forgets to set the variable would have a source that checks no signature.
  const secrets = [options.secrets ?? [], options.accounts?.map((account) => account.secrets) ?? []].flat(3)
  if (
    source !== undefined &&
    text !== undefined &&
    options.allowUnsigned !== true &&
    resolve.optional(secrets).length === 0
  ) {
    resolve.problem('signature is described, but none of its secrets is set')
  }
  return source
}

/** What can be written down and cannot work, or would not keep what it seems to promise. */
function contradictions({ signature, ...options }: GenericOptions, text: SignedText | undefined): string[] {
  const found: string[] = []
  const check = (isWrong: boolean, problem: string) => isWrong && found.push(problem)
  const ids = [options.callbackId ?? []].flat()
  check(
    options.batch !== undefined && ids.length > 0 && ids.every((id) => 'header' in id),
    'callbackId is read from headers alone, so that all callbacks of one batch would share it: add a json pointer',
  )
  const credentials = Object.keys(options.headers ?? {}).map((name) => name.toLowerCase())
  check(
    headersOf(ids).some((header) => header === 'authorization' || credentials.includes(header)),
    'callbackId is read from a header that carries a credential, which is never stored: name callbacks by something else',
  )
  if (signature === undefined || text === undefined) {
    for (const option of ['secrets', 'accounts'] as const) {
      check(options[option] !== undefined, `${option}: describe signature, which they are for, or leave ${option} out`)
    }
    check(options.toleranceSeconds !== undefined, 'toleranceSeconds needs signature.timestamp')
    check(options.allowUnsigned === true, 'allowUnsigned needs signature: without one, all requests are unsigned')
    return found
  }
  const { timestamp } = signature
  const header = signature.header.toLowerCase()
  const timeHeader = timestamp?.header.toLowerCase()
  check(options.secrets === undefined && options.accounts === undefined, 'signature needs secrets or accounts')
  check(
    !text.hasBody && !text.needsUrl && text.headers.length === 0,
    'signature.text holds nothing of the request, so one signature would fit them all: add {body}, {url} or {header:...}',
  )
  check(
    options.methods?.includes('GET') === true && !text.hasUrl,
    'methods has GET, whose callbacks stand in the query of the URL: add {url} to signature.text',
  )
  check(text.headers.includes(header), 'signature.text holds the header that carries the signature')
  check(timestamp === undefined && text.hasTimestamp, 'signature.text holds {timestamp}: add signature.timestamp')
  check(timestamp === undefined && options.toleranceSeconds !== undefined, 'toleranceSeconds needs signature.timestamp')
  check(
    timeHeader !== undefined && !text.hasTimestamp && !text.headers.includes(timeHeader),
    'signature.text lacks {timestamp}, so that anybody could change the time',
  )
  check(
    timeHeader === header &&
      (!signature.separator || !signature.prefix || !timestamp!.prefix || timestamp!.separator !== signature.separator),
    'signature and signature.timestamp share a header: give both a prefix, and the same separator',
  )
  check(
    header === 'authorization' && (options.basicAuth !== undefined || options.bearerTokens !== undefined),
    'signature.header, basicAuth and bearerTokens all need the header Authorization',
  )
  check(credentials.includes(header), 'headers asks for a fixed value of the header that carries the signature')
  check(
    signature.algorithm === 'ed25519' && signature.secretEncoding === 'text',
    'signature.secretEncoding of ed25519 is hex or base64, of the public key',
  )
  return found
}

/** A scheme of a provider that the options describe. They must have been checked. */
function createScheme(options: GenericOptions, text: SignedText | undefined): Scheme {
  const { signature, callbackId, type, occurredAt, callId } = options
  const batch = options.batch === undefined ? undefined : parsePointer(options.batch)
  return {
    ...profile,
    methods: options.methods ?? ['POST'],
    ...(signature && text && { signature: createSignature(signature, text, coverage(options, text)) }),
    signatureHeader: signature?.header.toLowerCase(),
    keptHeaders: [...(text?.headers ?? []), ...headersOf([callbackId, type, occurredAt, callId])],
    split: createSplit(options, batch),
    ...(batch && { envelope: (callbacks: Buffer[]) => envelopeAt(batch, callbacks) }),
  }
}

/** The headers that selectors look into, lower case. */
function headersOf(selectors: (Selector | Selector[] | string | undefined)[]): string[] {
  return selectors
    .flat()
    .flatMap((from) => (typeof from === 'object' && 'header' in from ? from.header?.toLowerCase() : undefined) ?? [])
}

/** What a signature over `text` protects of a request. */
function coverage({ callbackId }: GenericOptions, text: SignedText): (method: string) => VerifiedBy {
  const ids = [callbackId ?? []].flat()
  const hasId = ids.length > 0 && ids.every((id) => 'header' in id && text.headers.includes(id.header.toLowerCase()))
  // Of a GET, the body is nothing; and a path alone is the same for all callbacks of a source.
  return (method) => (text.hasBody && method !== 'GET' ? 'body' : text.hasUrl ? 'url' : hasId ? 'id' : 'secret')
}

function createSignature(
  options: GenericSignature,
  text: SignedText,
  coversOf: (method: string) => VerifiedBy,
): Signature {
  const { algorithm, encoding, timestamp } = options
  const header = options.header.toLowerCase()
  const timeHeader = timestamp?.header.toLowerCase()
  const decode = encoding === 'hex' ? fromHex : fromAnyBase64

  function proofs(message: Message): Proof[] | RejectReason {
    const value = message.header(header)
    if (value === undefined) return 'signature_missing'
    const signatures = entriesOf(value, options)
      .slice(0, MAX_SIGNATURES)
      .map(decode)
      .filter(({ length }) => length > 0)
    if (signatures.length === 0) return 'signature_unreadable'
    let written: string | undefined
    let signedAt: Date | undefined
    if (timestamp !== undefined) {
      written = entriesOf(message.header(timeHeader!) ?? '', timestamp)[0]
      if (!written) return 'timestamp_missing'
      signedAt = parseTime(written, timestamp.format)
      if (signedAt === undefined) return 'timestamp_unreadable'
    }
    const signed = text.write({ ...partsOf(message), timestamp: written })
    const covers = coversOf(message.method)
    return signatures.map((signature) => ({
      algorithm,
      signed,
      signature,
      encoding,
      covers,
      ...(signedAt !== undefined && { signedAt }),
    }))
  }

  function sign(request: OutgoingRequest, secret: string, at: Date): OutgoingRequest {
    const written = timestamp && writeTime(at, timestamp.format)
    const timeEntry = timestamp && `${timestamp.prefix ?? ''}${written}`
    const headers = { ...request.headers, ...(timeHeader !== undefined && { [timeHeader]: timeEntry! }) }
    const signed = text.write({ ...request, header: (name) => headers[name], timestamp: written })
    const made = makeSignature(options, secret, signed).toString(encoding)
    const entry = `${options.prefix ?? ''}${made}`
    headers[header] = timeHeader === header ? `${timeEntry}${options.separator}${entry}` : entry
    return { ...request, headers }
  }

  return {
    key: (secret) => toKey(secret, options),
    proofs,
    sign,
    coversUrl: text.needsUrl,
    coversQuery: text.hasUrl,
    headers: timeHeader === undefined ? [header] : [...new Set([header, timeHeader])],
  }
}

/** Spelled out, because the parts of a message that are parsed when they are asked for must not be. */
function partsOf({ method, url, body, header }: Message) {
  return { method, url, body, header }
}

/** What stands behind the prefix in each of a header's entries. */
function entriesOf(value: string, { prefix = '', separator }: { prefix?: string; separator?: string }): string[] {
  const entries = separator === undefined ? [value] : value.split(separator, MAX_ENTRIES)
  return entries
    .map((entry) => entry.trim())
    .filter((entry) => entry.startsWith(prefix))
    .map((entry) => entry.slice(prefix.length))
}

/** The key that a configured secret stands for. Throws an error that names no value. */
function toKey(secret: string, { algorithm, secretEncoding }: GenericSignature): Key {
  const encoding = secretEncoding ?? (algorithm === 'ed25519' ? 'base64' : 'text')
  const bytes = decodeSecret(secret, encoding)
  if (bytes.length === 0) throw new Error(`it must be ${encoding}`)
  if (algorithm !== 'ed25519') return bytes
  const isDer = bytes.subarray(0, ED25519_PUBLIC.length).equals(ED25519_PUBLIC)
  return ed25519PublicKey(isDer ? bytes.subarray(ED25519_PUBLIC.length) : bytes, encoding)
}

function decodeSecret(secret: string, encoding: 'text' | 'hex' | 'base64'): Buffer {
  if (encoding === 'text') return Buffer.from(secret)
  return encoding === 'hex' ? fromHex(secret) : fromBase64(secret)
}

function makeSignature(options: GenericSignature, secret: string, signed: Buffer): Buffer {
  if (options.algorithm === 'ed25519') return signEd25519(fromBase64(secret), signed)
  // Forgeries are made with random base64, which is no hex.
  const key = decodeSecret(secret, options.secretEncoding ?? 'text')
  return digest(options.algorithm, key.length > 0 ? key : Buffer.from(secret), signed)
}

const UNIX_MS = /^\d{1,14}$/
/** 2001 and later: twelve digits of seconds would be the year 5138, of milliseconds 1973. */
const LOOKS_LIKE_MS = /^\d{12,14}$/

function parseTime(text: string, timeFormat: TimeFormat | undefined): Date | undefined {
  switch (timeFormat) {
    case 'unix':
      return fromUnixSeconds(text)
    case 'unix-ms':
      return UNIX_MS.test(text) ? new Date(Number(text)) : undefined
    case 'iso':
      return fromIsoTime(text)
    case undefined:
      return LOOKS_LIKE_MS.test(text) ? new Date(Number(text)) : (fromUnixSeconds(text) ?? fromIsoTime(text))
  }
}

function writeTime(at: Date, timeFormat: TimeFormat): string {
  if (timeFormat === 'iso') return at.toISOString()
  return String(timeFormat === 'unix' ? toUnixSeconds(at) : at.getTime())
}

/** What a callback's texts are looked up in. */
interface Place {
  json: Json | undefined
  content: Content
  header: Message['header']
}

type Lookup = (place: Place) => string | undefined

function createLookup(from: Selector): Lookup {
  if ('json' in from && from.json !== undefined) {
    const path = parsePointer(from.json)!
    return ({ json }) => json && textAtPointer(json, path)
  }
  if ('header' in from && from.header !== undefined) {
    const name = from.header.toLowerCase()
    return ({ header }) => header(name)?.trim() || undefined
  }
  const { field } = from as { field: string }
  return ({ content }) => content.text(field)
}

function createSplit(options: GenericOptions, batch: string[] | undefined): Scheme['split'] {
  const callbackId = options.callbackId && createNaming([options.callbackId].flat())
  const type = createType(options.type)
  const occurredAt = options.occurredAt && createLookup(options.occurredAt)
  const callId = options.callId && createLookup(options.callId)

  function find(place: Place): CallbackFound {
    const { raw, payload } = place.content
    const id = callbackId?.(place)
    if (callbackId !== undefined && id === undefined) return { kind: 'unreadable', reason: 'callback_id_missing', raw }
    const time = occurredAt?.(place)
    return {
      kind: 'found',
      callbackId: id,
      type: type(place),
      callId: callId?.(place),
      occurredAt: time === undefined ? undefined : parseTime(time, options.occurredAt!.format),
      raw,
      payload,
    }
  }

  return ({ method, json, content, header }) => {
    if (typeof content === 'string') return content
    // A number or a text alone is JSON too, but no provider means it so.
    const document = method === 'GET' || content.payload !== undefined || typeof json === 'string' ? undefined : json
    const elements = batch && document && elementsAtPointer(document, batch)
    if (typeof elements === 'string') return elements
    if (elements !== undefined) {
      return elements.map((element) => find({ json: element, content: jsonContent(element), header }))
    }
    const found = find({ json: document, content, header })
    return found.kind === 'unreadable' ? found.reason : [found]
  }
}

/** One id stays as the provider wrote it; several are put together so that a missing one is not mistaken for another. */
function createNaming(from: Selector[]): Lookup {
  const lookups = from.map(createLookup)
  if (lookups.length === 1) return lookups[0]!
  return (place) => {
    const [first, ...rest] = lookups.map((lookUp) => lookUp(place))
    const last = rest.findLastIndex((text) => text !== undefined)
    return composeCallbackId(first, ...rest.slice(0, last + 1).map((text) => text ?? ''))
  }
}

function createType(from: GenericOptions['type'] = ''): (place: Place) => string {
  if (typeof from === 'string') return () => from
  const lookups = [from].flat().map(createLookup)
  return (place) =>
    lookups
      .map((lookUp) => lookUp(place))
      .filter((text) => text !== undefined)
      .join('.')
}

const profile: Omit<Scheme, 'split' | 'signature'> = {
  facts: {
    title: 'Whatever the configuration describes',
    headers: [],
    signedText: documented(
      'The template `signature.text`; HMAC with MD5, SHA-1, SHA-256, SHA-384 or SHA-512, MD5 with the secret appended, or Ed25519; in hex or base64, with a prefix, one or several in a header.',
    ),
    secret: documented('`secrets` or `accounts`, as text, hex or base64; for Ed25519, the public key.'),
    covers: documented(
      'The body if the template contains it or a hash of it; else the URL; else the id, if the header that names the callback is signed; else only that the sender knows the secret.',
    ),
    callbackId: documented(
      '`callbackId`: a JSON pointer, a header, a field, or several of them combined. If it is left out, the same bytes within ten minutes are a repetition.',
    ),
    type: documented('`type`: the same forms, or a fixed text.'),
    occurredAt: documented(
      '`occurredAt`: the same forms, in seconds, milliseconds or ISO 8601. Else the time of receipt.',
    ),
    account: documented('The account in `accounts` whose secret verified it.'),
    callId: documented('`callId`: a JSON pointer, a header or a field.'),
    timeLimit: unknown('Set by the provider.'),
    retries: unknown('Set by the provider.'),
    answer: documented('`answer`, by default small JSON; always with status 200.'),
    traps: [
      'Anybody who has seen one request can change an id in a header that is not signed. A secret URL keeps strangers out, and a timestamp in the signed text limits the time to do so.',
      'Repetitions of a provider that signs once and repeats for hours are refused after `toleranceSeconds`: raise it.',
      'With `{url}` or `{path}`, Ringback must know the public URL: set `PUBLIC_BASE_URL`.',
      'Of multipart/form-data, as Exotel sends it, the text fields are read; files stay in `raw` alone. If it is sent again with another boundary, it is the same event and counts as changed.',
      'Headers that the configuration reads are stored as they come, even those called token, key or cookie. List a secret one in `headers` as well: it is then never stored, and what it names or signs cannot be verified again in quarantine.',
      'It cannot describe RSA or ECDSA signatures, keys in PEM, a signature in the body or the query, or a plain hash other than `md5`. Let such a provider in by `urlTokens`.',
      'No answer can echo a challenge, with which Slack (`url_verification`), Zoom (`endpoint.url_validation`), Meta (`hub.challenge`) and RingCentral (`Validation-Token`) check a URL: something in front of Ringback must answer it.',
    ],
  },
  methods: ['POST'],
  delivery: {
    timeoutMs: 10_000,
    retryDelaysMs: [5_000, 30_000, 120_000],
    isDelivered: is2xx,
  },
  samples: {
    'demo.event': {
      headers: { 'x-event-id': '{{uuid#event}}', 'x-event-type': 'demo.event' },
      json: {
        id: '{{uuid#event}}',
        type: 'demo.event',
        timestamp: '{{iso}}',
        data: { id: '{{uuid#event}}', call_id: '{{uuid#call}}' },
      },
    },
  },
}

/** The options that only this preset has; of an option that is an object, its members. */
type OwnOption =
  | Exclude<keyof GenericOptions, keyof SourceOptions>
  | `signature.${keyof GenericSignature}`
  | `signature.timestamp.${keyof NonNullable<GenericSignature['timestamp']>}`

const ownOptions: Record<OwnOption, string> = {
  signature: 'How the provider signs. Leave it out if the provider does not sign; then there are no `secrets` either.',
  'signature.algorithm':
    '`hmac-sha256`, `hmac-sha1`, `hmac-sha384`, `hmac-sha512`, `hmac-md5`; `md5`: MD5 over the text with the secret appended; `ed25519`: the secret is the public key',
  'signature.header': 'the header that carries the signature',
  'signature.encoding': '`hex` or `base64`, the latter in either alphabet (base64url), padded or not',
  'signature.text':
    'A template of the signed text: `{body}`, `{timestamp}` (as it came), `{url}`, `{path}` (without the query), `{method}`, `{header:Name}`, and hashes of the body, `{sha256hex:body}`, `{sha256base64:body}` and `{sha256:body}` (the raw bytes), also with `md5`, `sha1`, `sha384` and `sha512`. Write a literal brace twice: `{{`, `}}`.',
  'signature.prefix':
    'the text before each signature, such as `sha256=`; entries that begin otherwise are ignored. None if left out',
  'signature.separator':
    'what separates several entries in the header, such as `,`. If left out, there is one entry, the whole header',
  'signature.secretEncoding':
    'how the secret is written: `text`, `hex` or `base64`. If left out, `text`, and `base64` for `ed25519`',
  'signature.timestamp':
    'The time of signing. If given, times further than `toleranceSeconds` (300) from now are refused, and the text must contain `{timestamp}` or the header of the time.',
  'signature.timestamp.header': 'the header that carries the time, which may be the header of the signature',
  'signature.timestamp.format': '`unix` (seconds), `unix-ms` or `iso` (ISO 8601 with its zone)',
  'signature.timestamp.prefix': 'as for the signature, if the time is one of several entries of its header',
  'signature.timestamp.separator': 'the same',
  callbackId:
    "What identifies a callback permanently: `{ json: '/data/id' }` (a JSON pointer), `{ header: 'X-Event-Id' }` or `{ field: 'id' }` (of the form, of the query of a GET, or of the JSON object), or a list of these, which are combined. If left out, the bytes, within ten minutes.",
  type: 'The provider’s word for the event: one of the same forms; a list is joined by `.`; a text is the type of all events. Empty if left out.',
  occurredAt:
    'when it happened: one of the same forms, optionally with `format` (as of `signature.timestamp`); without it, the format is detected',
  callId: 'the call that it belongs to: one of the same forms',
  batch:
    'JSON pointer to the list of callbacks in a request, if there are several; an empty text is the document itself. `json` and `field` then refer to each callback.',
  methods: 'a list of `POST`, `GET` and `PUT`; `POST` if left out',
}

const provider: Provider<'configured', Scheme> = {
  name: 'generic',
  title: 'Any other provider',
  schemes: { configured: { ...profile, split: createSplit({}, undefined) } },
  example: `generic: generic({
  secrets: [env('GENERIC_SECRET'), env('GENERIC_SECRET_PREVIOUS')],
  signature: {
    algorithm: 'hmac-sha256',
    header: 'X-Signature',
    encoding: 'hex',
    prefix: 'sha256=',
    text: '{timestamp}.{body}',
    timestamp: { header: 'X-Timestamp', format: 'unix' },
  },
  callbackId: { json: '/id' },
  type: { json: '/type' },
  occurredAt: { json: '/timestamp', format: 'iso' },
}),`,
  options: ownOptions,
  sourceAddresses: assumed('The provider’s own; `addresses` takes a list of them.'),
  setUp: [
    'Find in the provider’s documentation which header carries the signature, what text is signed, with which algorithm, and how the result is written; describe this as `signature`.',
    'Find what identifies an event permanently, over all repetitions, and give it as `callbackId`.',
    'If nothing is signed, require a secret instead: `urlTokens`, `basicAuth`, `bearerTokens` or `headers`.',
    'Turn `shadow` on for the first hours, check what would have been refused, and turn it off.',
  ],
  references: ['datatracker.ietf.org/doc/html/rfc6901 (JSON pointers)'],
}

/** A provider described in the configuration. */
export const generic: GenericPreset = Object.assign(createGeneric, { provider })
