import { readFileSync } from 'node:fs'
import { childrenOf } from './process-tree.ts'

/** Linux counts CPU time in hundredths of a second, whatever its own tick is (USER_HZ). */
const MICROSECONDS_PER_TICK = 10_000

/** Microseconds of CPU that a process has used, including its children that have ended. */
export function cpuTimeUs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold anything, so fields are counted from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
  return ticks * MICROSECONDS_PER_TICK
}

/** The same, including children that run, such as Postgres's: each session is a process. */
export function cpuTimeOfGroupUs(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, member) => sum + timeOrNothing(member), 0)
}

/** A child that has just ended is counted with its parent the next time. */
function timeOrNothing(pid: number): number {
  try {
    return cpuTimeUs(pid)
  } catch {
    return 0
  }
}
