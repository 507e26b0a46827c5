import { once } from 'node:events'
import { open, rename, rm, stat } from 'node:fs/promises'

/** Where an export goes. */
export interface Output {
  write: (bytes: Uint8Array) => Promise<void>
  /** Ends an export that is whole. */
  finish: () => Promise<void>
  /** Ends one that is not: leaves nothing that could be taken for a whole export. */
  discard: () => Promise<void>
}

/** Opens a file that is `<path>.part` until it is whole and on the disk. Rejects if `path` is a folder. */
export async function fileOutput(path: string): Promise<Output> {
  // In the end the file could not take the folder's name.
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (isFolder) throw new Error(`${path} is a folder; --out names a file`)
  const part = `${path}.part`
  const file = await open(part, 'w').catch((cause: NodeJS.ErrnoException) => {
    throw new Error(`${part} cannot be written (${cause.code}); --out names a file in a folder that is there`, {
      cause,
    })
  })
  return {
    // Unlike `write`, this goes on until all of it is written.
    write: async (bytes) => await file.appendFile(bytes),
    async finish() {
      await file.sync()
      await file.close()
      await rename(part, path)
    },
    async discard() {
      await file.close()
      await rm(part, { force: true })
    },
  }
}

/** Standard output, written no faster than it is read. */
export function standardOutput(): Output {
  return {
    async write(bytes) {
      if (!process.stdout.write(bytes)) await once(process.stdout, 'drain')
    },
    async finish() {},
    async discard() {},
  }
}
