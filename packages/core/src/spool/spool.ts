import { mkdir, open, readdir, readFile, rename, stat, statfs, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Logger } from '../log.ts'
import { lockFolder } from '../lock-folder.ts'
import { encodeGroup, readSegment } from './records.ts'
import type { SpooledGroup } from './records.ts'

// Where groups wait while the queue is down: append-only files in a folder that one process at a time holds. A group is
// on disk (written and synced, and so is the entry of its file in the folder) when append resolves.

export type { SpooledGroup } from './records.ts'

/** How much waits in a spool. */
export interface SpoolUsage {
  groups: number
  /** The size of the files on disk, including those that are partly drained. */
  bytes: number
  /** When the oldest group came: ms since 1970. Undefined where nothing waits. */
  oldestAt: number | undefined
}

export interface Spool {
  folder: string
  /** Resolves when the group is on disk. Rejects if it cannot be written, or the spool would grow beyond `maxBytes`. */
  append: (group: SpooledGroup) => Promise<void>
  usage: () => SpoolUsage
  /** Rejects if a group could not be appended just now. */
  probe: () => Promise<void>
  /**
   * Gives each group to `add`, the oldest first and one at a time. A file is deleted when all its groups have been given, so
   * after a crash some are given again. A file that cannot be read is skipped. Resolves when nothing is left. Rejects with
   * what `add` rejects with, and begins there the next time; rejects at the end if it has skipped a file.
   */
  drain: (add: (group: SpooledGroup) => Promise<void>) => Promise<void>
  /** Waits for what is being written, then unlocks the folder. */
  close: () => Promise<void>
}

export interface SpoolOptions {
  /** The size beyond which `append` rejects. */
  maxBytes: number
  log: Logger
}

interface Segment {
  path: string
  bytes: number
  groups: number
  oldestAt: number
  /** Where draining goes on. */
  position: number
  /** Whether damage lies before `position`. */
  isDamaged: boolean
  /** False where it could not be read when the spool was opened: what it holds is not in `groups`. */
  isCounted: boolean
}

/** Small, for a file is deleted only when it has been drained whole. */
const SEGMENT_BYTES = 8 * 1024 * 1024
const SUFFIX = '.groups'

/**
 * Opens the spool in `folder`, with what an earlier process has left there; undefined where another process holds it.
 * @throws if the folder cannot be made or written
 */
export async function openSpool(folder: string, { maxBytes, log }: SpoolOptions): Promise<Spool | undefined> {
  await makeFolder(folder)
  const lock = lockFolder(folder)
  if (lock === undefined) return undefined

  const found = await findSegments(folder).catch((error: unknown) => {
    lock.unlock()
    throw error
  })
  /** Those that nothing more is written to, the oldest first. */
  const sealed = new Set(found)
  let nextNumber = found.length === 0 ? 1 : numberOf(found.at(-1)!.path) + 1
  let active: { file: FileHandle; segment: Segment } | undefined
  /** The size of the last group that fits into `maxBytes` at all: without room for another such group, the spool is full. */
  let lastBytes = 1
  let lastWork: Promise<unknown> = Promise.resolve()

  /** Runs one operation at a time on the active segment. */
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = lastWork.then(work)
    lastWork = result.catch(() => undefined)
    return result
  }

  const segments = () => (active === undefined ? [...sealed] : [...sealed, active.segment])
  const bytesInUse = () => usageOf(segments()).bytes

  async function write(group: SpooledGroup): Promise<void> {
    const record = encodeGroup(group)
    if (record.length <= maxBytes) lastBytes = record.length
    if (bytesInUse() + record.length > maxBytes) throw full()
    active ??= await createSegment()
    const { file, segment } = active
    try {
      await file.appendFile(record)
      await file.datasync()
    } catch (error) {
      await giveUpWriting()
      throw error
    }
    if (segment.groups === 0) segment.oldestAt = group.at
    segment.bytes += record.length
    segment.groups += 1
    if (segment.bytes >= SEGMENT_BYTES) await seal()
  }

  async function probe(): Promise<void> {
    if (bytesInUse() + lastBytes > maxBytes) throw full()
    const file = await open(join(folder, 'probe'), 'w')
    try {
      await file.writeFile(Buffer.alloc(lastBytes))
      await file.datasync()
    } finally {
      // The room that it took would let the next probe succeed on a disk that is full.
      await file.truncate().catch(() => undefined)
      await file.close()
    }
  }

  const full = () => new Error(`the spool is full: it may hold ${maxBytes} bytes`)

  async function createSegment(): Promise<{ file: FileHandle; segment: Segment }> {
    const path = join(folder, String(nextNumber).padStart(12, '0') + SUFFIX)
    const file = await open(path, 'ax', 0o600)
    nextNumber += 1
    try {
      await syncFolder(folder)
    } catch (error) {
      await file.close()
      await unlink(path).catch(() => undefined)
      throw error
    }
    return { file, segment: { path, position: 0, isDamaged: false, ...countOf(Buffer.alloc(0)) } }
  }

  async function seal(): Promise<void> {
    if (active === undefined) return
    const { file, segment } = active
    active = undefined
    sealed.add(segment)
    await file.close()
  }

  /** After a failed write or sync nobody knows what the file's end holds. What was acknowledged before it is kept. */
  async function giveUpWriting(): Promise<void> {
    const { file, segment } = active!
    await file.truncate(segment.bytes).catch(() => undefined)
    if (segment.groups > 0) return seal()
    active = undefined
    await file.close()
    await unlink(segment.path).catch(() => undefined)
  }

  /** A segment's bytes; undefined, and logged, if they cannot be read. */
  async function contentOf(segment: Segment): Promise<Buffer | undefined> {
    try {
      const content = await readFile(segment.path)
      if (!segment.isCounted) Object.assign(segment, countOf(content))
      return content
    } catch (error) {
      log.error({ path: segment.path, error: (error as Error).message }, 'spool.unreadable')
      return undefined
    }
  }

  async function drainSegment(
    segment: Segment,
    content: Buffer,
    add: (group: SpooledGroup) => Promise<void>,
  ): Promise<void> {
    for (const part of readSegment(content, segment.position)) {
      if (part.kind === 'group') {
        await add(part.group)
        segment.groups -= 1
      } else if (part.kind === 'unfinished') {
        log.info({ path: segment.path, bytes: part.bytes }, 'spool.unfinished')
      } else {
        segment.isDamaged = true
        log.error({ path: segment.path, bytes: part.bytes }, 'spool.damaged')
      }
      segment.position = part.end
    }
    // With the time, because numbers are used again, and what was put aside before must stay.
    if (segment.isDamaged) await rename(segment.path, `${segment.path}.${Date.now()}.damaged`)
    else await unlink(segment.path)
  }

  return {
    folder,
    append: (group) => inTurn(() => write(group)),
    probe,
    usage: () => usageOf(segments()),
    async drain(add) {
      await inTurn(seal)
      const unreadable: string[] = []
      for (const segment of sealed) {
        const content = await contentOf(segment)
        if (content === undefined) {
          unreadable.push(segment.path)
          continue
        }
        await drainSegment(segment, content, add)
        sealed.delete(segment)
      }
      if (unreadable.length > 0) throw new Error(`not drained, for they cannot be read: ${unreadable.join(', ')}`)
    },
    async close() {
      await inTurn(seal)
      lock.unlock()
    },
  }
}

function usageOf(segments: Segment[]): SpoolUsage {
  return {
    groups: segments.reduce((total, { groups }) => total + groups, 0),
    bytes: segments.reduce((total, { bytes }) => total + bytes, 0),
    oldestAt: segments.find(({ groups }) => groups > 0)?.oldestAt,
  }
}

function numberOf(path: string): number {
  return Number(path.slice(-SUFFIX.length - 12, -SUFFIX.length))
}

/** Makes a folder that only this user can enter, and those above it, and syncs their entries to disk. */
async function makeFolder(folder: string): Promise<void> {
  const above = await mkdir(dirname(folder), { recursive: true })
  const own = await mkdir(folder, { recursive: true, mode: 0o700 })
  const firstMade = above ?? own
  if (firstMade === undefined) return
  for (let path = resolve(folder); ; path = dirname(path)) {
    await syncFolder(dirname(path))
    if (path === resolve(firstMade)) return
  }
}

/** Without it a crash of the machine may take the file's name, and with it all that was synced. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** All segments of a folder. One that cannot be read now may be readable later, and must not keep the others back. */
async function findSegments(folder: string): Promise<Segment[]> {
  const segments: Segment[] = []
  for (const path of await segmentPaths(folder)) {
    const count = await readFile(path).then(countOf, () => uncounted(path))
    segments.push({ path, position: 0, isDamaged: false, ...count })
  }
  return segments
}

type Count = Pick<Segment, 'bytes' | 'groups' | 'oldestAt' | 'isCounted'>

/** What a segment of this content holds. */
function countOf(content: Buffer): Count {
  const groups = [...readSegment(content)].flatMap((part) => (part.kind === 'group' ? [part.group] : []))
  return { bytes: content.length, groups: groups.length, oldestAt: groups[0]?.at ?? 0, isCounted: true }
}

async function uncounted(path: string): Promise<Count> {
  const bytes = await stat(path).then(
    ({ size }) => size,
    () => 0,
  )
  return { bytes, groups: 0, oldestAt: 0, isCounted: false }
}

async function segmentPaths(folder: string): Promise<string[]> {
  const names = await readdir(folder)
  return names
    .filter((name) => /^\d{12}\.groups$/.test(name))
    .toSorted()
    .map((name) => join(folder, name))
}

/** The sub-folders of `SPOOL_DIR` that are spools: each ingest takes the first that nobody holds. */
export async function spoolFolders(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch(() => [])
  return names
    .filter((name) => /^\d{1,4}$/.test(name))
    .toSorted((a, b) => Number(a) - Number(b))
    .map((name) => join(dir, name))
}

/** What waits in a spool, held by another process or not. @throws if the folder cannot be read and written */
export async function describeSpool(folder: string): Promise<SpoolUsage & { held: boolean }> {
  const lock = lockFolder(folder)
  lock?.unlock()
  return { held: lock === undefined, ...usageOf(await findSegments(folder)) }
}

/** Whether something waits in a spool, held or not. */
export async function holdsGroups(folder: string): Promise<boolean> {
  return (await segmentPaths(folder)).length > 0
}

const MOST_SPOOLS = 1000

/**
 * The first spool of `dir` that nobody holds, or a new one. One that cannot be opened, such as another user's, is passed over.
 * @throws if `dir` cannot be made or written
 */
export async function openOwnSpool(dir: string, options: SpoolOptions): Promise<Spool> {
  const present = await spoolFolders(dir)
  for (let number = 0; number < MOST_SPOOLS; number++) {
    const folder = join(dir, String(number))
    const spool = await openSpool(folder, options).catch((error: unknown) => {
      if (!present.includes(folder)) throw error
    })
    if (spool !== undefined) return spool
  }
  throw new Error(`all ${MOST_SPOOLS} spools in ${dir} are held by other processes`)
}

/** File systems that do not last, by the numbers that Linux gives them (statfs(2)). */
const UNSAFE_FILE_SYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
  [0x794c7630, 'overlayfs'],
])

/** What is unsafe about the folder, with its mend; undefined where nothing is. @throws if the folder is not there */
export async function unsafeSpool(dir: string): Promise<string | undefined> {
  const { type } = await statfs(dir)
  const name = UNSAFE_FILE_SYSTEMS.get(type)
  if (name === undefined) return undefined
  const what = name === 'overlayfs' ? 'goes with the container' : 'goes with the machine’s memory'
  return `SPOOL_DIR lies on ${name}, which ${what}: mount a disk or a volume there`
}
