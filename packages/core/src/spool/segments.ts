import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readSegment } from './records.ts'

// The files of a spool, which are numbered as they were made, and how much each holds.

/** How much waits in a spool, or in one of its segments. */
export interface SpoolUsage {
  groups: number
  /** The size of the files on disk, including those that are partly drained. */
  bytes: number
  /** When the oldest group came: ms since 1970. Undefined where nothing waits. */
  oldestAt: number | undefined
}

export interface Segment {
  path: string
  usage: SpoolUsage
  /** False where it could not be read when the spool was opened: its groups are not in `usage`. */
  isCounted: boolean
  /** Where draining goes on. */
  position: number
  /** Whether damage lies before `position`. */
  isDamaged: boolean
  /** Whether all of it has been given, and only its file is left. */
  isDrained: boolean
}

const SUFFIX = '.groups'
const UNDRAINED = { position: 0, isDamaged: false, isDrained: false }

export function newSegment(folder: string, number: number): Segment {
  const path = join(folder, String(number).padStart(12, '0') + SUFFIX)
  return { path, usage: usageOf(Buffer.alloc(0)), isCounted: true, ...UNDRAINED }
}

/** The number of the segment after `last`. */
export function numberAfter(last: Segment | undefined): number {
  return last === undefined ? 1 : Number(last.path.slice(-SUFFIX.length - 12, -SUFFIX.length)) + 1
}

/** All segments of a folder, the oldest first. */
export async function findSegments(folder: string): Promise<Segment[]> {
  const segments: Segment[] = []
  for (const path of await segmentPaths(folder)) segments.push(await findSegment(path))
  return segments
}

/** A segment that cannot be read now may be readable later, and must not keep the others back. */
async function findSegment(path: string): Promise<Segment> {
  const content = await readFile(path).catch(() => undefined)
  const usage = content === undefined ? await usageOfUnreadable(path) : usageOf(content)
  return { path, usage, isCounted: content !== undefined, ...UNDRAINED }
}

export async function segmentPaths(folder: string): Promise<string[]> {
  const names = await readdir(folder)
  return names
    .filter((name) => /^\d{12}\.groups$/.test(name))
    .toSorted()
    .map((name) => join(folder, name))
}

/** What a segment of this content holds. */
export function usageOf(content: Buffer): SpoolUsage {
  const groups = [...readSegment(content)].flatMap((part) => (part.kind === 'group' ? [part.group] : []))
  return { groups: groups.length, bytes: content.length, oldestAt: groups[0]?.at }
}

async function usageOfUnreadable(path: string): Promise<SpoolUsage> {
  const { size } = await stat(path).catch(() => ({ size: 0 }))
  return { groups: 0, bytes: size, oldestAt: undefined }
}

export function totalUsage(segments: Segment[]): SpoolUsage {
  const usages = segments.map(({ usage }) => usage)
  return {
    groups: usages.reduce((total, { groups }) => total + groups, 0),
    bytes: usages.reduce((total, { bytes }) => total + bytes, 0),
    oldestAt: usages.find(({ groups }) => groups > 0)?.oldestAt,
  }
}
