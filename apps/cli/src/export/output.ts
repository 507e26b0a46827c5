import { randomBytes } from 'node:crypto'
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

/**
 * Opens a file that has a name of its own, which ends with `.part`, until it is whole and on the disk: two exports to one
 * path would write into each other. Rejects if `path` is a folder, a pipe or a device, whose name the file must not take.
 */
export async function fileOutput(path: string): Promise<Output> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isDirectory()) throw new Error(`${path} is a folder; --out names a file`)
  if (found?.isFile() === false) throw new Error(`${path} is a pipe or a device; --out names a file, or "-"`)
  const part = `${path}.${randomBytes(4).toString('hex')}.part`
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
