import { isObject } from '../is-object.ts'
import { depthWithin, documentSlice, elementsOf, member } from '../json-slices.ts'
import type { Slice } from '../json-slices.ts'
import { parseMultipart } from './multipart.ts'
import type { OutgoingRequest, ProviderRequest, RejectReason } from './provider.ts'

// A request's body and query as presets read them. Forms of both kinds and JSON are told apart by the bytes, not by the
// Content-Type, which several providers set wrongly.

/** How deep a callback may nest. */
export const MAX_DEPTH = 64
/** Providers send dozens. */
const MAX_FIELDS = 1000
const INTEGER = /^-?\d+$/

/**
 * How many callbacks a request may hold. Providers send dozens, and a thousand at most; a body of the largest size has room
 * for half a million, which would hold up everything else for a second before any of them is known to be forged.
 */
export const MAX_CALLBACKS = 10_000

export type Fields = readonly (readonly [name: string, value: string])[]

/** A request with its parts parsed when they are first asked for. */
export interface Message extends ProviderRequest {
  /** The query's fields, decoded, in order; "+" is a space. */
  query: Fields
  /** The body as JSON, or why it is none. */
  json: Json | RejectReason
  /** The body's fields as a form, decoded, in order. Empty for a body that is JSON. */
  form: Fields | RejectReason
  /** What the request says: of a GET its query, else its JSON object or its form. */
  content: Content | RejectReason
}

/** One JSON value with the bytes it was written in. */
export interface Json {
  value: unknown
  /** The whole document, without a byte order mark. */
  document: Buffer
  slice: Slice
  /** The exact bytes of this value. */
  raw: Buffer
}

/** Named texts, wherever they came from. */
export interface Content {
  /**
   * A text by its name; in JSON, by the names on the way to it. A number gives its digits, all of them; fractions,
   * booleans, objects, lists and null give nothing, and so does an empty text.
   */
  text: (...path: string[]) => string | undefined
  /** The exact bytes: body or query. */
  raw: Buffer
  /** JSON text, where `raw` is none. */
  payload: string | undefined
}

/** Adds the parsed views to a request. */
export function createMessage(request: ProviderRequest): Message {
  let query: Fields | undefined
  let json: Json | RejectReason | undefined
  let form: Fields | RejectReason | undefined
  let content: Content | RejectReason | undefined
  return {
    ...request,
    get query() {
      return (query ??= parseFields(queryOf(request.url)) ?? [])
    },
    get json() {
      return (json ??= parseJson(request.body))
    },
    get form() {
      return (form ??= parseForm(request))
    },
    get content() {
      return (content ??= contentOf(this))
    },
  }
}

/** An outgoing request as its receiver will read it, so that a preset signs by the code that verifies. */
export function outgoingMessage(request: OutgoingRequest, at: Date): Message {
  const header = (name: string) => request.headers[name]
  return createMessage({ ...request, header, remoteAddress: undefined, receivedAt: at })
}

/** What stands after the "?", without the fragment. */
export function queryOf(url: string): string {
  const at = url.indexOf('?')
  return at === -1 ? '' : url.slice(at + 1).split('#', 1)[0]!
}

function contentOf(message: Message): Content | RejectReason {
  if (message.method === 'GET') {
    if (parseFields(queryOf(message.url)) === undefined) return 'unreadable_body'
    return fieldsContent(message.query, Buffer.from(queryOf(message.url)))
  }
  if (looksLikeJson(message.body)) {
    const { json } = message
    return typeof json === 'string' ? json : jsonContent(json)
  }
  const { form } = message
  if (typeof form === 'string') return form
  return form.length === 0 ? 'unreadable_body' : fieldsContent(form, message.body)
}

/** Fields as content. Repeated names become a list in the payload; `text` gives the first. */
export function fieldsContent(fields: Fields, raw: Buffer): Content {
  const values = Map.groupBy(fields, ([name]) => name)
  return {
    text: (name) => (name === undefined ? undefined : values.get(name)?.[0]?.[1] || undefined),
    raw,
    get payload() {
      const members = [...values].map(([name, found]) => {
        const texts = found.map(([, value]) => value)
        return `${JSON.stringify(name)}:${JSON.stringify(texts.length === 1 ? texts[0] : texts)}`
      })
      return `{${members.join(',')}}`
    },
  }
}

/** The first of `names` that has a text. */
export function firstText(text: Content['text'], names: readonly string[]): string | undefined {
  for (const name of names) {
    const found = text(name)
    if (found !== undefined) return found
  }
  return undefined
}

/** A JSON value as content. */
export function jsonContent(json: Json): Content {
  return { text: (...path) => jsonText(json, path), raw: json.raw, payload: undefined }
}

/** The elements as {@link jsonElements} has them, where each is a callback; or that they are more than {@link MAX_CALLBACKS}. */
export function callbackElements(json: Json, key?: string): Json[] | 'too_many_callbacks' | undefined {
  const array = arrayOf(json, key)
  return array !== undefined && array.length > MAX_CALLBACKS ? 'too_many_callbacks' : jsonElements(json, key)
}

/** A body with `callbacks` in an array, under the names of `path`, one in the other; without any, the body is the array. */
export function envelopeAt(path: readonly string[], callbacks: readonly Buffer[]): Buffer {
  const inner = callbacks.flatMap((callback, index) => (index === 0 ? [callback] : [Buffer.from(','), callback]))
  const opening = path.map((name) => `{${JSON.stringify(name)}:`).join('')
  return Buffer.concat([Buffer.from(`${opening}[`), ...inner, Buffer.from(`]${'}'.repeat(path.length)}`)])
}

/** The elements of the array at `key` of a document that is an object, or of a document that is an array (no `key`). */
export function jsonElements(json: Json, key?: string): Json[] | undefined {
  const array = arrayOf(json, key)
  if (array === undefined) return undefined
  const slices = elementsOf(json.document, key)
  return slices.map((slice, index) => ({
    value: array[index],
    document: json.document,
    slice,
    raw: json.document.subarray(slice.start, slice.end),
  }))
}

function arrayOf({ value }: Json, key?: string): unknown[] | undefined {
  const found = key === undefined ? value : ownValue(value, key)
  return Array.isArray(found) ? found : undefined
}

/** The value at `path`, parsed. */
export function jsonAt(json: Json, ...path: string[]): unknown {
  return path.reduce(ownValue, json.value)
}

function jsonText(json: Json, path: string[]): string | undefined {
  const value = jsonAt(json, ...path)
  if (typeof value === 'string') return value === '' ? undefined : value
  if (typeof value !== 'number') return undefined
  let slice: Slice | undefined = json.slice
  for (const key of path) slice = slice && member(json.document, slice, key)
  const written = slice && json.document.toString('latin1', slice.start, slice.end)
  return written !== undefined && INTEGER.test(written) ? written : undefined
}

function ownValue(value: unknown, key: string): unknown {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined
}

/** Parses JSON within our limits. */
export function parseJson(body: Buffer): Json | RejectReason {
  const document = withoutByteOrderMark(body)
  if (!depthWithin(document, MAX_DEPTH)) return 'too_deep'
  try {
    const value: unknown = JSON.parse(document.toString('utf8'))
    const slice = documentSlice(document)
    return { value, document, slice, raw: document.subarray(slice.start, slice.end) }
  } catch {
    return 'unreadable_body'
  }
}

/** Some HTTP clients put a byte order mark before JSON; JSON.parse takes none. */
export function withoutByteOrderMark(body: Buffer): Buffer {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body
}

const JSON_START = new Set([0x7b, 0x5b])
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d])
const DASH = 0x2d

/** A body from its first byte on that is no byte order mark and no space. */
function withoutSpaces(body: Buffer): Buffer {
  const text = withoutByteOrderMark(body)
  let at = 0
  while (SPACES.has(text[at]!)) at += 1
  return at === 0 ? text : text.subarray(at)
}

function looksLikeJson(body: Buffer): boolean {
  return JSON_START.has(withoutSpaces(body)[0]!)
}

/** Whether a body begins as multipart/form-data does; no provider has a field whose name does. */
export function isMultipart(body: Buffer): boolean {
  const text = withoutSpaces(body)
  return text[0] === DASH && text[1] === DASH
}

function parseForm({ body, header }: ProviderRequest): Fields | RejectReason {
  if (looksLikeJson(body)) return []
  const fields = isMultipart(body)
    ? parseMultipart(withoutSpaces(body), header('content-type') ?? '', MAX_FIELDS)
    : parseFields(body.toString('utf8'))
  return fields ?? 'unreadable_body'
}

/** Undefined for more fields than any provider sends. */
function parseFields(text: string): Fields | undefined {
  let separators = 0
  for (let at = text.indexOf('&'); at !== -1; at = text.indexOf('&', at + 1)) {
    separators += 1
    if (separators >= MAX_FIELDS) return undefined
  }
  // Behind a "?" of our own, for one at its beginning would be taken for no part of it.
  return [...new URLSearchParams(`?${text}`)]
}
