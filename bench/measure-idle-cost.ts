import { setTimeout as sleep } from 'node:timers/promises'
import { startDesign } from './designs.ts'
import type { Design } from './designs.ts'
import { cpuTimes, shareOf } from './measure-load.ts'
import type { CpuTimes } from './measure-load.ts'
import type { Servers } from './servers.ts'

/** What a design costs when nothing comes in. */
export interface IdleCost {
  /** CPU of each kind of process, in percent of one core. */
  cpuPercent: CpuTimes
  redisCommandsPerSecond: number
  /** Transactions in the design's own database. */
  transactionsPerSecond: number
}

const SETTLE_MS = 3000

/** Measures what a design costs while nothing comes in. */
export async function measureIdleCost(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
  seconds: number,
): Promise<IdleCost> {
  await servers.emptyRedis()
  const running = await startDesign(resources, servers, design)
  const look = async () => ({
    cpu: cpuTimes(servers, running),
    commands: await servers.redisCommands(),
    transactions: await servers.transactions(design.database),
    at: performance.now(),
  })
  try {
    await sleep(SETTLE_MS)
    const before = await look()
    await sleep(seconds * 1000)
    const after = await look()
    const measuredSeconds = (after.at - before.at) / 1000
    return {
      // A percent of a second is 10,000 microseconds.
      cpuPercent: shareOf(before.cpu, after.cpu, measuredSeconds * 10_000),
      redisCommandsPerSecond: (after.commands - before.commands - 1) / measuredSeconds,
      transactionsPerSecond: (after.transactions - before.transactions) / measuredSeconds,
    }
  } finally {
    await running.stop()
  }
}
