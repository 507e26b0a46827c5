import { once } from 'node:events'
import { open, rename, rm, stat } from 'node:fs/promises'

/** Where an export goes. */
export interface Output {
  write: (bytes: Uint8Array) => Promise<void>
  /** What was written is the whole export. */
  finish: () => Promise<void>
  /** It is not: nothing is left that could be taken for it. */
  discard: () => Promise<void>
}

/** A file that has its name only when it is whole and on the disk; `<path>.part` until then. */
export async function fileOutput(path: string): Promise<Output> {
  // Its name could not be taken in the end.
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

/** Standard output, no faster than its reader reads. Rejects when the reader has gone. */
export function standardOutput(): Output {
  const gone = new Promise<never>((_resolve, reject) => {
    process.stdout.once('error', (cause) => reject(new Error('Nobody reads the standard output any more', { cause })))
  })
  gone.catch(() => {}) // seen by the write that waits
  return {
    async write(bytes) {
      if (process.stdout.write(bytes)) return
      await Promise.race([once(process.stdout, 'drain'), gone])
    },
    async finish() {},
    async discard() {},
  }
}
