import type { Fields } from './message.ts'

// Bodies of multipart/form-data (RFC 7578), of which only the fields of text are read.

const BOUNDARY = /^multipart\/form-data[ \t]*;(?:.*;)?[ \t]*boundary=(?:"([^"]+)"|([^\s;"]+))/i
/** What stands behind a delimiter: the end of its line, headers, and behind an empty line the value. */
const PART = /^[ \t]*\r\n((?:.+\r\n)+)\r\n([^]*)$/
const DISPOSITION = /^content-disposition:[ \t]*form-data[ \t]*;(.*)$/im
const NAME = /(?:^|;)[ \t]*name=(?:"([^"]*)"|([^\s;"]+))[ \t]*(?:;|$)/i
const FILE_NAME = /(?:^|;)[ \t]*filename\*?=/i
/** An encoding of bytes by text, which RFC 7578 has done away with. */
const ENCODED = /^content-transfer-encoding:[ \t]*(?:base64|quoted-printable)/im

/** The fields of text, in order; files are passed over. Undefined for what is no such body, or has more than `maxParts` parts. */
export function parseMultipart(body: Buffer, contentType: string, maxParts: number): Fields | undefined {
  const [, quoted, bare] = BOUNDARY.exec(contentType) ?? []
  const boundary = quoted ?? bare
  if (boundary === undefined) return undefined
  // As Latin-1, one character a byte. What stands before the first delimiter and behind the last is no part.
  const pieces = `\r\n${body.toString('latin1').trimStart()}`.split(`\r\n--${boundary}`, maxParts + 2)
  const [before, ...parts] = pieces
  const last = parts.pop()
  if (before !== '' || last?.startsWith('--') !== true) return undefined
  const fields = parts.map(parsePart)
  return fields.includes(undefined) ? undefined : fields.filter((field) => field !== undefined && field !== 'file')
}

function parsePart(part: string): Fields[number] | 'file' | undefined {
  const [, headers = '', value] = PART.exec(part) ?? []
  const disposition = DISPOSITION.exec(headers)?.[1]
  if (value === undefined || disposition === undefined) return undefined
  if (FILE_NAME.test(disposition)) return 'file'
  const [, quoted, bare] = NAME.exec(disposition) ?? []
  const name = quoted ?? bare
  return name === undefined || ENCODED.test(headers) ? undefined : [toUtf8(name), toUtf8(value)]
}

function toUtf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8')
}
