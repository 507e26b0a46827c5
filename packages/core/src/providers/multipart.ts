import type { Fields } from './message.ts'

// Bodies of multipart/form-data (RFC 7578). Only fields with text are read. Node's own parser (`Response.formData`) and the
// usual libraries are asynchronous, but a source reads a request in one step.

const BOUNDARY = /^multipart\/form-data[ \t]*;(?:.*;)?[ \t]*boundary=(?:"([^"]+)"|([^\s;"]+))/i
/** What stands behind a delimiter: the end of its line, headers, an empty line, and the value. */
const PART = /^[ \t]*\r\n((?:.+\r\n)+)\r\n([^]*)$/
const DISPOSITION = /^content-disposition:[ \t]*form-data[ \t]*;(.*)$/im
const NAME = /(?:^|;)[ \t]*name=(?:"([^"]*)"|([^\s;"]+))[ \t]*(?:;|$)/i
const FILE_NAME = /(?:^|;)[ \t]*filename\*?=/i
/** Bytes encoded as text, which RFC 7578 has deprecated. */
const ENCODED = /^content-transfer-encoding:[ \t]*(?:base64|quoted-printable)/im

/** The fields with text, in order; files are skipped. Undefined if it is no such body, or has more than `maxParts` parts. */
export function parseMultipart(body: Buffer, contentType: string, maxParts: number): Fields | undefined {
  const [, quoted, bare] = BOUNDARY.exec(contentType) ?? []
  const boundary = quoted ?? bare
  if (boundary === undefined) return undefined
  // As Latin-1, one character a byte. The last delimiter is followed by "--", and then by nothing that counts.
  const pieces = `\r\n${body.toString('latin1')}`.split(`\r\n--${boundary}`, maxParts + 2)
  const [before, ...parts] = pieces
  const end = parts.pop()
  if (before !== '' || end?.startsWith('--') !== true) return undefined
  const fields = parts.map(parsePart)
  return fields.every((found) => found !== undefined) ? fields.flat() : undefined
}

/** The field of a part; none if it is a file. Undefined if it cannot be read. */
function parsePart(part: string): Fields | undefined {
  const [, headers = '', value] = PART.exec(part) ?? []
  const disposition = DISPOSITION.exec(headers)?.[1]
  if (value === undefined || disposition === undefined) return undefined
  if (FILE_NAME.test(disposition)) return []
  const [, quoted, bare] = NAME.exec(disposition) ?? []
  const name = quoted ?? bare
  return name === undefined || ENCODED.test(headers) ? undefined : [[toUtf8(name), toUtf8(value)]]
}

function toUtf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8')
}

/** A body without its boundaries, which are new each time that a body is sent: the rest stays the same. */
export function withoutBoundary(body: Buffer): Buffer {
  const text = body.toString('latin1')
  const delimiter = /^\s*(--\S+)[ \t]*\r\n/.exec(text)?.[1]
  return delimiter === undefined ? body : Buffer.from(text.replaceAll(delimiter, ''), 'latin1')
}
