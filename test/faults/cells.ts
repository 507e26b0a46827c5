import {
  cut,
  fillPostgres,
  fillRedis,
  freeze,
  kill,
  killWhileDraining,
  killWhileWaiting,
  restart,
  silence,
} from './faults.ts'
import type { Fault } from './faults.ts'
import { smallDiskProblem } from './small-disk.ts'
import type { ProcessName, QueueKind } from './stand.ts'

/** A fault that is done to a process, with the queue on one kind of server. */
export interface Cell {
  /** `fault:target:queue` */
  name: string
  queue: QueueKind
  fault: Fault
  isProxied?: boolean
  isOnSmallDisk?: boolean
  /** Why it cannot be run here. */
  problem?: string | undefined
}

/** Every cell that makes sense. */
export const cells: readonly Cell[] = (['redis', 'postgres'] as const).flatMap((queue) => [
  ...targetsOf(queue).flatMap((target) => [
    cell('kill', target, queue, kill(target)),
    cell('freeze', target, queue, freeze(target)),
    cell('restart', target, queue, restart(target)),
    { ...cell('cut', target, queue, cut(target)), isProxied: true },
    { ...cell('silence', target, queue, silence(target)), isProxied: true },
  ]),
  { ...cell('full', 'postgres', queue, fillPostgres), isOnSmallDisk: true, problem: smallDiskProblem() },
  ...combinations(queue),
])

function targetsOf(queue: QueueKind): ProcessName[] {
  return queue === 'redis' ? ['ingest', 'worker', 'redis', 'postgres'] : ['ingest', 'worker', 'postgres']
}

function combinations(queue: QueueKind): Cell[] {
  const onBoth = [
    cell('kill', `${queue}+worker`, queue, kill(queue, 'worker')),
    // What the worker has taken from the queue, but cannot store, it has only in its memory.
    cell('freeze+kill', 'postgres+worker', queue, freeze('postgres', kill('worker'))),
    // This is like a power cut, except for the disks.
    cell('kill', 'all', queue, kill('ingest', 'worker', 'redis', 'postgres')),
    cell('kill-waiting', `${queue}+ingest`, queue, killWhileWaiting(queue)),
    cell('kill-draining', 'ingest', queue, killWhileDraining(queue)),
  ]
  if (queue === 'postgres') return onBoth
  return [
    ...onBoth,
    cell('kill', 'postgres+worker', queue, kill('postgres', 'worker')),
    cell('full', 'redis', queue, fillRedis),
    cell('freeze+restart', 'postgres+redis', queue, freeze('postgres', restart('redis'))),
    cell('freeze+kill', 'redis+ingest', queue, freeze('redis', kill('ingest'))),
  ]
}

function cell(fault: string, target: string, queue: QueueKind, inject: Fault): Cell {
  return { name: `${fault}:${target}:${queue}`, queue, fault: inject }
}

/** Whether a cell's name matches a pattern such as `kill`, `kill:redis` or `*:postgres:redis`. */
export function matches(name: string, pattern: string): boolean {
  const parts = name.split(':')
  return pattern.split(':').every((wanted, index) => wanted === '*' || wanted === parts[index])
}
