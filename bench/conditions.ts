import { open } from 'node:fs/promises'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Servers } from './servers.ts'
import { median } from './statistics.ts'

/** What a reader must know to judge the figures, a line for each condition. */
export async function describeConditions({ dir, versions }: Servers): Promise<string[]> {
  const gibibytes = Math.round(totalmem() / 2 ** 30)
  return [
    `${availableParallelism()} cores of ${cpus()[0]?.model ?? 'an unknown CPU'}, ${gibibytes} GiB of memory, Linux ${release()}`,
    `Node ${process.versions.node}, Redis ${versions.redis}, Postgres ${versions.postgres}`,
    `writing 4 KiB to disk and syncing it (fdatasync) takes ${(await fdatasyncMs(dir)).toFixed(2)} ms`,
  ]
}

/** How long an fdatasync takes here, in ms. It is a condition because every design waits for the disk. */
async function fdatasyncMs(dir: string): Promise<number> {
  await using file = await open(join(dir, 'fdatasync'), 'w')
  const page = Buffer.alloc(4096)
  const timesMs: number[] = []
  for (let round = 0; round < 200; round++) {
    const startedAt = performance.now()
    await file.write(page)
    await file.datasync()
    timesMs.push(performance.now() - startedAt)
  }
  return median(timesMs)
}
