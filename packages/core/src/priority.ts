import { readdirSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

// When more threads want to run than there are cores, those that an answer waits for should go first. Linux keeps a priority
// for each thread, which os.setPriority sets by the thread's id; a new thread inherits that of the one that makes it.

/** A niceness: about a tenth of a core for which processes of normal priority compete, and all of an idle one. */
const LOW = 10

/** Lowers the priority of this process, with all its threads. */
export function lowerPriority(): void {
  if (process.platform === 'linux') lowerThreads(() => true)
  else setPriority(Math.max(getPriority(), LOW))
}

/** Lowers the priority of V8's helper threads, which collect garbage and compile. On Linux only. */
export function lowerHelperPriority(): void {
  if (process.platform === 'linux') lowerThreads((name) => name.includes('V8Worker'))
}

function lowerThreads(isMeant: (name: string) => boolean): void {
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      if (!isMeant(readFileSync(`/proc/self/task/${thread}/comm`, 'utf8'))) continue
      // Never raised: only root may do that, and whoever started the process chose the priority.
      setPriority(Number(thread), Math.max(getPriority(Number(thread)), LOW))
    } catch {
      // The thread has ended, or may not be changed: all works as before.
    }
  }
}
