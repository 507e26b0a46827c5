import { readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { lockFolder } from '../lock-folder.ts'
import { findSegments, segmentPaths, totalUsage } from './segments.ts'
import type { SpoolUsage } from './segments.ts'
import { openSpool } from './spool.ts'
import type { Spool, SpoolOptions } from './spool.ts'

// The spools of `SPOOL_DIR`, a sub-folder each, and what can be known of one that another process holds.

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
  return { held: lock === undefined, ...totalUsage(await findSegments(folder)) }
}

/** Whether something waits in a spool, held or not. */
export async function holdsGroups(folder: string): Promise<boolean> {
  return (await segmentPaths(folder)).length > 0
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
