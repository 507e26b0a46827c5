import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Random } from './random.ts'
import type { LinkName, ProcessName, Stand } from './stand.ts'

// Faults of a running Ringback. Each resolves when it is over: what was ended has been started again, what was frozen runs,
// what was full has room, what was cut is connected.

/** Does one fault, now, and resolves when it is over. */
export type Fault = (stand: Stand, timing: FaultTiming) => Promise<void>

/** How long a fault lasts, if it has a length. */
export interface FaultTiming {
  random: Random
  /** The least and the greatest length, in milliseconds. */
  lengthMs: readonly [number, number]
}

/** Kills all targets with SIGKILL at the same moment. */
export function kill(...targets: ProcessName[]): Fault {
  return async ({ processes }) => void (await Promise.all(targets.map((target) => processes[target].kill())))
}

/** Asks the target to end, and starts it again. */
export function restart(target: ProcessName): Fault {
  return ({ processes }) => processes[target].restart()
}

/** Freezes the target with SIGSTOP: connections stay open and nobody answers. `meanwhile` is another fault in its middle. */
export function freeze(target: ProcessName, meanwhile?: Fault): Fault {
  return async (stand, timing) => {
    stand.processes[target].signal('SIGSTOP')
    try {
      await last(timing, 0.5)
      await meanwhile?.(stand, timing)
      await last(timing, 0.5)
    } finally {
      stand.processes[target].signal('SIGCONT')
    }
  }
}

/** Ends the target's connections, and refuses new ones. */
export function cut(target: ProcessName): Fault {
  return (stand, timing) => breakLinks(stand, target, 'cut', timing)
}

/** Leaves the target's connections open but lets nothing pass, as when a cable is pulled. */
export function silence(target: ProcessName): Fault {
  return (stand, timing) => breakLinks(stand, target, 'freeze', timing)
}

/** Leaves Redis no free memory. */
export const fillRedis: Fault = async ({ redisUrl }, timing) => {
  const redis = new Redis(redisUrl)
  try {
    const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1])
    await redis.config('SET', 'maxmemory', String(Math.floor(used * FULL_SHARE)))
    await last(timing)
  } finally {
    await redis.config('SET', 'maxmemory', '0')
    redis.disconnect()
  }
}

/** The limit, as a share of what Redis uses: the worker empties the queue faster than ingest would fill a little room. */
const FULL_SHARE = 0.8

/** Fills the disk that Postgres writes to. */
export const fillPostgres: Fault = async ({ disk }, timing) => {
  try {
    await disk!.fill()
    await last(timing)
  } finally {
    await disk!.empty()
  }
}

/**
 * Freezes the queue's server, and kills it together with ingest before ingest gives up waiting for it. What ingest has in
 * hand is then only in their memories, and must not have been answered.
 */
export function killWhileWaiting(queueServer: 'redis' | 'postgres'): Fault {
  return async (stand, timing) => {
    stand.processes[queueServer].signal('SIGSTOP')
    await sleep(timing.random.between(50, 350))
    await kill(queueServer, 'ingest')(stand, timing)
  }
}

/** Freezes the queue's server, so that ingest spools, and kills ingest soon after the thaw, while it drains its spool. */
export function killWhileDraining(queueServer: 'redis' | 'postgres'): Fault {
  return async (stand, timing) => {
    await freeze(queueServer)(stand, timing)
    await sleep(timing.random.between(0, 1500))
    await kill('ingest')(stand, timing)
  }
}

async function breakLinks(
  { links, queue }: Stand,
  target: ProcessName,
  how: 'cut' | 'freeze',
  timing: FaultTiming,
): Promise<void> {
  const broken = linksOf(target, queue).flatMap((name) => links[name] ?? [])
  try {
    for (const link of broken) await link[how]()
    await last(timing)
  } finally {
    for (const link of broken) await link.restore()
  }
}

function linksOf(target: ProcessName, queue: Stand['queue']): LinkName[] {
  switch (target) {
    case 'ingest':
      return ['ingest-queue']
    case 'worker':
      return ['worker-queue', 'worker-postgres']
    case 'redis':
      return ['ingest-queue', 'worker-queue']
    case 'postgres':
      return queue === 'redis' ? ['worker-postgres'] : ['ingest-queue', 'worker-queue', 'worker-postgres']
  }
}

async function last({ random, lengthMs: [from, to] }: FaultTiming, share = 1): Promise<void> {
  await sleep(random.between(from, to) * share)
}
