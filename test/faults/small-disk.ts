import { execFile } from 'node:child_process'
import { chmod, mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A file system of its own that can be filled and emptied. */
export interface SmallDisk extends AsyncDisposable {
  path: string
  /** Uses up the room that is left. */
  fill: () => Promise<void>
  /** Frees that room again. */
  empty: () => Promise<void>
}

const SIZE_MB = 512

/** Mounts a disk in memory, which only root may. @throws where that cannot be done */
export async function mountSmallDisk(path: string): Promise<SmallDisk> {
  await mkdir(path)
  await run('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MB}m`, 'tmpfs', path])
  await chmod(path, 0o755)
  const ballast = join(path, 'ballast')
  const empty = () => rm(ballast, { force: true })
  return {
    path,
    async fill() {
      const { bavail, bsize } = await statfs(path)
      // If this fails, others have written meanwhile: the file system is full either way.
      await writeFile(ballast, Buffer.alloc(bavail * bsize)).catch(() => undefined)
    },
    empty,
    async [Symbol.asyncDispose]() {
      await run('umount', ['--lazy', path])
    },
  }
}

/** Why there can be no small disk here; undefined where there can. */
export function smallDiskProblem(): string | undefined {
  if (process.platform !== 'linux') return 'disks in memory are mounted on Linux only'
  return process.getuid?.() === 0 ? undefined : 'only root may mount a disk'
}
