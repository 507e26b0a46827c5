// Where values stand in JSON text, as byte offsets: a callback is kept as the exact bytes that came, and an id keeps
// every digit, both of which JSON.parse loses. Nothing here validates: run JSON.parse on the same bytes as well, and
// trust what these functions say only if it succeeds. They never throw and never read past the end on any input.

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const SPACE = 0x20
const LAST_ASCII = 0x7f

/** A piece of JSON text: byte offsets, `end` exclusive. */
export interface Slice {
  start: number
  end: number
}

/** An element of an array. */
export interface Element extends Slice {
  /** If the element is an object, the value of the member that was asked for: the last one, as JSON.parse keeps it. */
  member?: Slice | undefined
}

/** One `"key": value` of an object; `key` is the key with its escapes resolved. */
interface Member extends Slice {
  key: string
  /** Where the key's opening quote stands. */
  keyStart: number
}

/** Whether arrays and objects are nested at most `maxDepth` levels deep. Call it before JSON.parse. */
export function depthWithin(json: Buffer, maxDepth: number): boolean {
  // Most documents have fewer opening brackets than that in all, and indexOf counts them in native code.
  if (openings(json, OPEN_BRACE, maxDepth) + openings(json, OPEN_BRACKET, maxDepth) <= maxDepth) return true
  let depth = 0
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (byte === QUOTE) at = stringEnd(json, at, json.length) - 1
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth += 1
      if (depth > maxDepth) return false
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1
  }
  return true
}

/** How often `byte` occurs, strings included. It stops at one more than `limit`. */
function openings(json: Buffer, byte: number, limit: number): number {
  let count = 0
  for (let at = json.indexOf(byte); at !== -1 && count <= limit; at = json.indexOf(byte, at + 1)) count += 1
  return count
}

/** The whole document without the white space around it. */
export function documentSlice(json: Buffer): Slice {
  return trimmed(json, 0, json.length)
}

/**
 * The elements of an array, in order: of the document's member `key` (the last one, as JSON.parse keeps it), or of the
 * document itself if there is no `key`. Empty if that is no array. With `memberKey`, each element that is an object comes
 * with that member. One pass, because this runs for every request, and a loop of its own: by `eachMember` it takes a fifth
 * longer.
 */
export function elementsOf(json: Buffer, key?: string, memberKey?: string): Element[] {
  const { start, end } = documentSlice(json)
  let found: Element[] = []
  if (key === undefined) {
    if (json[start] === OPEN_BRACKET) collectElements(json, start, end, found, memberKey)
    return found
  }
  if (json[start] !== OPEN_BRACE) return found
  let at = skipSpace(json, start + 1, end)
  while (at < end && json[at] === QUOTE) {
    const keyEnd = stringEnd(json, at, end)
    const value = skipSpace(json, skipSpace(json, keyEnd, end) + 1, end)
    const isKept = isKey(json, at, keyEnd, key)
    if (isKept) found = []
    const isArray = isKept && json[value] === OPEN_BRACKET
    const valueStop = isArray ? collectElements(json, value, end, found, memberKey) : valueEnd(json, value, end)
    at = skipSpace(json, skipSpace(json, valueStop, end) + 1, end)
  }
  return found
}

/** The members of the object at `slice`, in order, repeated keys included; nothing if there is no object. */
function members(json: Buffer, slice: Slice): Member[] {
  const found: Member[] = []
  eachMember(json, slice, (keyStart, keyEnd, valueStart, valueEnd) => {
    found.push({ key: text(json, keyStart, keyEnd), keyStart, ...trimmed(json, valueStart, valueEnd) })
  })
  return found
}

/** The value of `key` in the object at `slice`: the last one, as JSON.parse keeps it. Undefined if there is none. */
export function member(json: Buffer, slice: Slice, key: string): Slice | undefined {
  let found: Slice | undefined
  eachMember(json, slice, (keyStart, keyEnd, valueStart, valueEnd) => {
    if (isKey(json, keyStart, keyEnd, key)) found = trimmed(json, valueStart, valueEnd)
  })
  return found
}

/**
 * The same JSON without the members named in `keys`, at any depth. What is kept keeps its bytes; white space may go.
 * `json` must be valid JSON.
 */
export function withoutMembers(json: Buffer, keys: ReadonlySet<string>): Buffer {
  const cuts: Slice[] = []
  collectCuts(json, documentSlice(json), keys, cuts)
  if (cuts.length === 0) return json
  const kept: Buffer[] = []
  let at = 0
  for (const cut of cuts) {
    kept.push(json.subarray(at, cut.start))
    at = cut.end
  }
  kept.push(json.subarray(at))
  return Buffer.concat(kept)
}

function collectCuts(json: Buffer, slice: Slice, keys: ReadonlySet<string>, cuts: Slice[]): void {
  if (json[slice.start] === OPEN_BRACKET) {
    const inner: Slice[] = []
    collectElements(json, slice.start, slice.end, inner)
    for (const element of inner) collectCuts(json, element, keys, cuts)
  }
  const all = members(json, slice)
  let hasKept = false
  // A member is cut together with the comma before it, or if none before it is kept with the one after it.
  for (const [index, candidate] of all.entries()) {
    if (!keys.has(candidate.key)) {
      hasKept = true
      collectCuts(json, candidate, keys, cuts)
    } else if (hasKept) {
      cuts.push({ start: all[index - 1]!.end, end: candidate.end })
    } else {
      cuts.push({ start: candidate.keyStart, end: all[index + 1]?.keyStart ?? candidate.end })
    }
  }
}

/** Collects the elements of the array whose bracket stands at `from`. Returns the offset after its closing bracket. */
function collectElements(json: Buffer, from: number, limit: number, found: Element[], memberKey?: string): number {
  let at = from + 1
  while (at < limit) {
    const start = skipSpace(json, at, limit)
    let member: Slice | undefined
    const end =
      memberKey === undefined || json[start] !== OPEN_BRACE
        ? valueEnd(json, start, limit)
        : eachMember(json, { start, end: limit }, (keyStart, keyEnd, valueStart, valueEnd) => {
            if (isKey(json, keyStart, keyEnd, memberKey)) member = trimmed(json, valueStart, valueEnd)
          })
    const element = trimmed(json, start, end)
    if (element.end > element.start) found.push({ start, end: element.end, member })
    at = end + 1
    if (json[end] === CLOSE_BRACKET) break
  }
  return at
}

/** Visits the members of the object at the start of the slice. Returns the offset of what follows it after white space. */
function eachMember(
  json: Buffer,
  slice: Slice,
  visit: (keyStart: number, keyEnd: number, valueStart: number, valueEnd: number) => void,
): number {
  if (json[slice.start] !== OPEN_BRACE) return slice.start
  let at = skipSpace(json, slice.start + 1, slice.end)
  if (json[at] === CLOSE_BRACE) return skipSpace(json, at + 1, slice.end)
  while (at < slice.end && json[at] === QUOTE) {
    const keyEnd = stringEnd(json, at, slice.end)
    const colon = skipSpace(json, keyEnd, slice.end)
    if (json[colon] !== COLON) return colon
    const end = valueEnd(json, colon + 1, slice.end)
    visit(at, keyEnd, colon + 1, end)
    at = skipSpace(json, end + 1, slice.end)
  }
  return at
}

/** Compares in place if the key is plain ASCII, because this runs for every key of every callback. */
function isKey(json: Buffer, keyStart: number, keyEnd: number, key: string): boolean {
  // However a key is written, each of its letters takes a byte or more.
  if (keyEnd - keyStart < key.length + 2) return false
  let same = keyEnd - keyStart === key.length + 2
  for (let at = keyStart + 1; at < keyEnd - 1; at++) {
    const byte = json[at]!
    if (byte === BACKSLASH || byte > LAST_ASCII) return text(json, keyStart, keyEnd) === key
    same &&= byte === key.charCodeAt(at - keyStart - 1)
  }
  return same
}

/** Where the value that starts at `from` ends: at the comma or closing bracket after it. */
function valueEnd(json: Buffer, from: number, limit: number): number {
  let depth = 0
  for (let at = from; at < limit; at++) {
    const byte = json[at]
    if (byte === QUOTE) at = stringEnd(json, at, limit) - 1
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return at
      depth -= 1
    } else if (byte === COMMA && depth === 0) return at
  }
  return limit
}

/** The offset after the closing quote of the string whose opening quote stands at `from`. */
function stringEnd(json: Buffer, from: number, limit: number): number {
  for (let at = from + 1; at < limit; at++) {
    const byte = json[at]
    if (byte === BACKSLASH) at += 1
    else if (byte === QUOTE) return at + 1
  }
  return limit
}

function skipSpace(json: Buffer, from: number, limit: number): number {
  let at = from
  while (at < limit && json[at]! <= SPACE) at += 1
  return at
}

function trimmed(json: Buffer, from: number, to: number): Slice {
  const start = skipSpace(json, from, to)
  let end = to
  while (end > start && json[end - 1]! <= SPACE) end -= 1
  return { start, end }
}

function text(json: Buffer, start: number, end: number): string {
  const quoted = json.toString('utf8', start, end)
  if (!quoted.includes('\\')) return quoted.slice(1, -1)
  try {
    return String(JSON.parse(quoted))
  } catch {
    return quoted // not JSON; the caller's own JSON.parse refuses the document
  }
}
