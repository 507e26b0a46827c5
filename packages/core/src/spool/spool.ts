import { mkdir, open, readFile, rename, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Logger } from '../log.ts'
import { lockFolder } from '../lock-folder.ts'
import { encodeGroup, readSegment } from './records.ts'
import type { SpooledGroup } from './records.ts'
import { findSegments, newSegment, numberAfter, totalUsage, usageOf } from './segments.ts'
import type { Segment, SpoolUsage } from './segments.ts'

// Where groups wait while the queue is down: append-only files, the segments, in a folder that one process at a time holds.
// A group is on disk (written and synced, and so is the entry of its file in the folder) when append resolves.

export type { SpooledGroup } from './records.ts'
export type { SpoolUsage } from './segments.ts'

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
   * what `add` rejects with, and begins there the next time; rejects at the end if it has skipped a file or deleted not all.
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

/** Small, for a file is deleted only when it has been drained whole. */
const SEGMENT_BYTES = 8 * 1024 * 1024

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
  let nextNumber = numberAfter(found.at(-1))
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

  function expectRoom(bytes: number): void {
    if (totalUsage(segments()).bytes + bytes > maxBytes) {
      throw new Error(`the spool is full: it may hold ${maxBytes} bytes`)
    }
  }

  async function write(group: SpooledGroup): Promise<void> {
    const record = encodeGroup(group)
    if (record.length <= maxBytes) lastBytes = record.length
    expectRoom(record.length)
    active ??= await createSegment()
    const { file, segment } = active
    const { usage } = segment
    try {
      await file.appendFile(record)
      await file.datasync()
    } catch (error) {
      await giveUpWriting()
      throw error
    }
    usage.oldestAt ??= group.at
    usage.bytes += record.length
    usage.groups += 1
    if (usage.bytes >= SEGMENT_BYTES) await seal()
  }

  async function probe(): Promise<void> {
    expectRoom(lastBytes)
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

  async function createSegment(): Promise<{ file: FileHandle; segment: Segment }> {
    const segment = newSegment(folder, nextNumber)
    // Also if this fails: a file of that number, which somebody has put there, would be in the way of every group.
    nextNumber += 1
    const file = await open(segment.path, 'ax', 0o600)
    try {
      await syncFolder(folder)
    } catch (error) {
      await file.close()
      await unlink(segment.path).catch(() => undefined)
      throw error
    }
    return { file, segment }
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
    await file.truncate(segment.usage.bytes).catch(() => undefined)
    if (segment.usage.groups > 0) return seal()
    active = undefined
    await file.close()
    await unlink(segment.path).catch(() => undefined)
  }

  /** A segment's bytes; undefined, and logged, if they cannot be read. */
  async function contentOf(segment: Segment): Promise<Buffer | undefined> {
    try {
      const content = await readFile(segment.path)
      if (!segment.isCounted) segment.usage = usageOf(content)
      segment.isCounted = true
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
        segment.usage.groups -= 1
      } else if (part.kind === 'unfinished') {
        log.info({ path: segment.path, bytes: part.bytes }, 'spool.unfinished')
      } else {
        segment.isDamaged = true
        log.error({ path: segment.path, bytes: part.bytes }, 'spool.damaged')
      }
      segment.position = part.end
    }
    segment.isDrained = true
  }

  return {
    folder,
    append: (group) => inTurn(() => write(group)),
    probe,
    usage: () => totalUsage(segments()),
    async drain(add) {
      await inTurn(seal)
      const unreadable: string[] = []
      const failures: unknown[] = []
      for (const segment of sealed) {
        if (!segment.isDrained) {
          const content = await contentOf(segment)
          if (content === undefined) {
            unreadable.push(segment.path)
            continue
          }
          await drainSegment(segment, content, add)
        }
        // A disk that takes no writes any more, and can still be read, keeps back none of the others.
        await putAway(segment).then(
          () => sealed.delete(segment),
          (error: unknown) => failures.push(error),
        )
      }
      if (failures.length > 0) throw failures[0]
      if (unreadable.length > 0) throw new Error(`not drained, for they cannot be read: ${unreadable.join(', ')}`)
    },
    async close() {
      await inTurn(seal)
      lock.unlock()
    },
  }
}

/** Deletes a segment that is drained, or puts it aside if it is damaged. */
async function putAway(segment: Segment): Promise<void> {
  // With the time, because numbers are used again, and what was put aside before must stay.
  if (segment.isDamaged) await rename(segment.path, `${segment.path}.${Date.now()}.damaged`)
  else await unlink(segment.path)
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
