import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Random } from './random.ts'
import type { LinkName, ProcessName, Stand } from './stand.ts'

// What is done to a running Ringback. Each resolves when the fault is over: what was ended has been started again, what
// was frozen runs, what was full has room, what was cut is joined.

/** One fault, at a moment that somebody else chooses. */
export type Fault = (stand: Stand, timing: FaultTiming) => Promise<void>

/** How long a fault lasts, where it has a length. */
export interface FaultTiming {
  random: Random
  /** Milliseconds, from and to. */
  lengthMs: readonly [number, number]
}

/** kill -9, all at the same moment. */
export function kill(...targets: ProcessName[]): Fault {
  return async ({ processes }) => void (await Promise.all(targets.map((target) => processes[target].kill())))
}

/** Asked to end, and started again. */
export function restart(target: ProcessName): Fault {
  return ({ processes }) => processes[target].restart()
}

/** SIGSTOP: connections stay open and nobody answers. `meanwhile` is another fault in the middle of it. */
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

/** Connections end, and new ones are refused. */
export function cut(target: ProcessName): Fault {
  return (stand, timing) => breakLinks(stand, target, 'cut', timing)
}

/** Connections stay and nothing passes, as when a cable is pulled. */
export function silence(target: ProcessName): Fault {
  return (stand, timing) => breakLinks(stand, target, 'freeze', timing)
}

/** Redis has used its memory. */
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

/** Under what it uses: the worker empties the queue faster than ingest would fill a little room. */
const FULL_SHARE = 0.8

/** The disk that Postgres writes to is full. */
export const fillPostgres: Fault = async ({ disk }, timing) => {
  try {
    await disk!.fill()
    await last(timing)
  } finally {
    await disk!.empty()
  }
}

/**
 * The queue's server freezes, and is killed together with ingest before that gives up waiting for it: what ingest has in
 * hand is in no memory but theirs, and must not have been answered.
 */
export function killWhileWaiting(queueServer: 'redis' | 'postgres'): Fault {
  return async (stand, timing) => {
    stand.processes[queueServer].signal('SIGSTOP')
    await sleep(timing.random.between(50, 350))
    await kill(queueServer, 'ingest')(stand, timing)
  }
}

/** The queue's server freezes, so that ingest spools; ingest is killed soon after the thaw, when it is draining. */
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
