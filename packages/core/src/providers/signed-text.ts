import { hash } from 'node:crypto'

// What is signed, written as a template such as "{timestamp}.{body}". "{{" and "}}" are braces.

/** The parts of a request that can be signed. */
export interface SignedParts {
  method: string
  url: string
  body: Buffer
  /** A header by its lower-case name. */
  header: (name: string) => string | undefined
  /** As the provider wrote it. */
  timestamp: string | undefined
}

/** A template that was understood. */
export interface SignedText {
  /** Whether the body, or a hash of it, is signed. */
  hasBody: boolean
  /** Whether the whole URL is signed. */
  hasUrl: boolean
  /** Whether the URL or a part of it is signed, so that the public one must be known. */
  needsUrl: boolean
  hasTimestamp: boolean
  /** Signed headers, lower case. */
  headers: string[]
  /** The exact bytes that are signed. A header that is missing counts as empty. */
  write: (parts: SignedParts) => Buffer
}

type Piece = (parts: SignedParts) => Buffer

const TOKEN = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g
const HEADER = /^header:([\w!#$%&'*+.^`|~-]+)$/
const BODY_HASH = /^(md5|sha1|sha256|sha384|sha512)(hex|base64)?:body$/

const simple = new Map<string, Piece>([
  ['body', ({ body }) => body],
  ['timestamp', ({ timestamp }) => Buffer.from(timestamp ?? '')],
  ['url', ({ url }) => Buffer.from(url)],
  ['path', ({ url }) => Buffer.from(pathOf(url))],
  ['method', ({ method }) => Buffer.from(method)],
])

/** Reads a template, or says what is wrong with it. */
export function parseSignedText(template: string): SignedText | { problem: string } {
  const pieces: Piece[] = []
  const names: string[] = []
  let end = 0
  for (const match of template.matchAll(TOKEN)) {
    const [token, name] = match
    pieces.push(literal(template.slice(end, match.index)))
    end = match.index + token.length
    if (name === undefined) {
      if (token.length === 1)
        return { problem: `has a single "${token}"; a brace itself is written "${token}${token}"` }
      pieces.push(literal(token[0]!))
      continue
    }
    const piece = pieceOf(name)
    if (piece === undefined) return { problem: `holds {${name}}, which is none of ${PLACEHOLDERS}` }
    pieces.push(piece)
    names.push(name)
  }
  pieces.push(literal(template.slice(end)))
  return {
    hasBody: names.some((name) => name === 'body' || name.endsWith(':body')),
    hasUrl: names.includes('url'),
    needsUrl: names.includes('url') || names.includes('path'),
    hasTimestamp: names.includes('timestamp'),
    headers: names.flatMap((name) => HEADER.exec(name)?.[1]?.toLowerCase() ?? []),
    write: (parts) => Buffer.concat(pieces.map((piece) => piece(parts))),
  }
}

const PLACEHOLDERS =
  '{body}, {timestamp}, {url}, {path}, {method}, {header:Name}, {sha256:body}, {sha256hex:body} and {sha256base64:body}' +
  ' (or md5, sha1, sha384, sha512)'

function pieceOf(name: string): Piece | undefined {
  const header = HEADER.exec(name)?.[1]?.toLowerCase()
  // Headers reach us as Latin-1, one character a byte.
  if (header !== undefined) return (parts) => Buffer.from(parts.header(header) ?? '', 'latin1')
  const [, algorithm, encoding] = BODY_HASH.exec(name) ?? []
  if (algorithm === undefined) return simple.get(name)
  return ({ body }) => {
    const digest = hash(algorithm, body, 'buffer')
    return encoding === undefined ? digest : Buffer.from(digest.toString(encoding as 'hex' | 'base64'))
  }
}

function literal(text: string): Piece {
  const bytes = Buffer.from(text)
  return () => bytes
}

const ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i

/** The path of a URL as it is written, without query; of a text without scheme and host, what stands before its query. */
export function pathOf(url: string): string {
  const path = url.replace(ORIGIN, '').split(/[?#]/, 1)[0]!
  return path === '' ? '/' : path
}
