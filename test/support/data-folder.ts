import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'

const ROOM_BYTES = 4 * 1024 ** 3

/** The folder for data: in memory if there is room, because tests make and drop hundreds of databases of 1000 files. */
export async function dataFolder(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > ROOM_BYTES ? memory : tmpdir()
}
