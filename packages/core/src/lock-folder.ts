import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** A folder that this process holds until it unlocks it or ends, in whatever way it ends. */
export interface FolderLock {
  unlock: () => void
}

/**
 * Locks a folder, or returns undefined where another holder has it. Node has no file locks of its own, so this uses
 * SQLite's, which are the operating system's: a lock ends with its process, even if that is killed, and a process that is
 * only frozen keeps it. The database itself stays empty.
 * @throws if the folder is not there or cannot be written
 */
export function lockFolder(folder: string): FolderLock | undefined {
  const file = join(folder, 'lock')
  const database = new DatabaseSync(file, { timeout: 0 })
  try {
    // A journal on disk would take room: on a full disk, what waits in a spool could not be drained.
    database.exec('pragma journal_mode = memory; begin exclusive')
    // SQLite also opens a file that it may only read, and then locks nothing.
    for (const path of [folder, file]) accessSync(path, constants.W_OK)
    return { unlock: () => database.close() }
  } catch (error) {
    database.close()
    if ((error as { errcode?: unknown }).errcode === SQLITE_BUSY) return undefined
    throw error
  }
}

const SQLITE_BUSY = 5
