import { crc32 } from 'node:zlib'

// How a group lies in a segment: a header of 12 bytes (magic, length, CRC-32 of what follows) and the group as JSON.
// Its checksum gives away a group that was half written when the machine died; such a group was acknowledged to nobody.

/** A group as the spool keeps it. */
export interface SpooledGroup {
  /** The id that its job has, or will have, in the queue. */
  id: string
  /** When it came to the spool: ms since 1970. */
  at: number
  /** The job's data, as it was given. */
  job: object
}

/** What a segment holds, in order: groups, and stretches of bytes that are not, or no longer, groups. */
export type SegmentPart =
  | { kind: 'group'; group: SpooledGroup; end: number }
  | { kind: 'unfinished' | 'damaged'; bytes: number; end: number }

const MAGIC = Buffer.from('RBS1')
const HEADER_BYTES = 12

/** `group` as it lies in a segment. */
export function encodeGroup(group: SpooledGroup): Buffer {
  const json = Buffer.from(JSON.stringify(group))
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32LE(json.length, 4)
  header.writeUInt32LE(crc32(json), 8)
  return Buffer.concat([header, json])
}

/**
 * Reads a segment from byte `start`, which must be where a part begins. Never throws: after damage it goes on at the next
 * group that is whole.
 */
export function* readSegment(segment: Buffer, start = 0): Generator<SegmentPart> {
  let position = start
  while (position < segment.length) {
    const read = readGroup(segment, position)
    if (read !== undefined) {
      yield { kind: 'group', ...read }
      position = read.end
      continue
    }
    const next = nextGroup(segment, position + 1)
    const end = next ?? segment.length
    const kind = next === undefined && isUnfinished(segment, position) ? 'unfinished' : 'damaged'
    yield { kind, bytes: end - position, end }
    position = end
  }
}

function readGroup(segment: Buffer, position: number): { group: SpooledGroup; end: number } | undefined {
  const begin = position + HEADER_BYTES
  if (begin > segment.length || !MAGIC.equals(segment.subarray(position, position + MAGIC.length))) return undefined
  const end = begin + segment.readUInt32LE(position + 4)
  // No group is empty, but the checksum of nothing is 0: after a power cut zeros may stand where the rest of one should.
  if (end === begin || end > segment.length) return undefined
  const json = segment.subarray(begin, end)
  if (crc32(json) !== segment.readUInt32LE(position + 8)) return undefined
  return { group: JSON.parse(json.toString()) as SpooledGroup, end }
}

/** Whether a group was only partly written: it would end beyond the segment. Any other bytes may be a damaged group. */
function isUnfinished(segment: Buffer, position: number): boolean {
  const rest = segment.subarray(position)
  if (rest.length < HEADER_BYTES) return MAGIC.indexOf(rest.subarray(0, MAGIC.length)) === 0
  return rest.indexOf(MAGIC) === 0 && HEADER_BYTES + rest.readUInt32LE(4) > rest.length
}

function nextGroup(segment: Buffer, from: number): number | undefined {
  for (let position = from; ; position += 1) {
    position = segment.indexOf(MAGIC, position)
    if (position === -1) return undefined
    if (readGroup(segment, position) !== undefined) return position
  }
}
