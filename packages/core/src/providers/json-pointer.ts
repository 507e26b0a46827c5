import { member } from '../json-slices.ts'
import type { Slice } from '../json-slices.ts'
import { callbackElements, jsonContent, jsonElements } from './message.ts'
import type { Json } from './message.ts'

// JSON pointers (RFC 6901) into documents of which the exact bytes are kept: numbers give all their digits.

const POINTER = /^(?:\/(?:[^~/]|~[01])*)*$/
const INDEX = /^(?:0|[1-9]\d{0,8})$/

/** The names in a pointer such as "/data/id"; undefined if it is no pointer. "" is the document and has none. */
export function parsePointer(pointer: string): string[] | undefined {
  if (!POINTER.test(pointer)) return undefined
  return pointer
    .split('/')
    .slice(1)
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
}

/** The value at the end of `path`, with its bytes. */
function atPointer(json: Json, path: readonly string[]): Json | undefined {
  let found: Json | undefined = json
  for (const name of path) found = found && step(found, name)
  return found
}

/** The text at the end of `path`, by the rules of {@link Content.text}. */
export function textAtPointer(json: Json, path: readonly string[]): string | undefined {
  const found = atPointer(json, path)
  return found && jsonContent(found).text()
}

/** The callbacks in the array at the end of `path`; undefined if there is no array. */
export function elementsAtPointer(json: Json, path: readonly string[]): Json[] | 'too_many_callbacks' | undefined {
  const found = atPointer(json, path)
  return found && callbackElements(asDocument(found))
}

function step(json: Json, name: string): Json | undefined {
  const { value, document } = json
  if (typeof value !== 'object' || value === null) return undefined
  if (Array.isArray(value)) return INDEX.test(name) ? jsonElements(asDocument(json))?.[Number(name)] : undefined
  if (!Object.hasOwn(value, name)) return undefined
  const slice: Slice | undefined = member(document, json.slice, name)
  return (
    slice && {
      value: (value as Record<string, unknown>)[name],
      document,
      slice,
      raw: document.subarray(slice.start, slice.end),
    }
  )
}

/** A value as a document of its own. */
function asDocument({ value, raw }: Json): Json {
  return { value, document: raw, slice: { start: 0, end: raw.length }, raw }
}
