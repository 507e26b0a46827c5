import { readFileSync } from 'node:fs'

/**
 * Signals a process and all that it has started. Linux only. The parent comes first: a parent that is stopped starts no
 * further children.
 */
export function signalTree(pid: number, signal: NodeJS.Signals): void {
  const children = childrenOf(pid)
  try {
    process.kill(pid, signal)
  } catch {
    return // it has ended, and its children with it
  }
  for (const child of new Set([...children, ...childrenOf(pid)])) signalTree(child, signal)
}

/** The ids of a process's running children; Postgres has one for each session. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
