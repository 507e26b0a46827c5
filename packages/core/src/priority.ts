import { readdirSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

// Where there are more threads to run than cores, those go first for which an answer waits. Linux keeps a priority for
// each thread, which os.setPriority sets by the thread's id; a new thread inherits that of the one that makes it.

/** A niceness: about a tenth of a core for which processes of normal priority compete, and all of an idle one. */
const LOW = 10

/** Lets other processes of the machine go first, with all threads. */
export function lowerPriority(): void {
  if (process.platform === 'linux') lowerThreads(() => true)
  else setPriority(Math.max(getPriority(), LOW))
}

/** Lets V8's helpers, which collect garbage and compile, wait for the threads that do the work. On Linux only. */
export function lowerHelperPriority(): void {
  if (process.platform === 'linux') lowerThreads((name) => name.includes('V8Worker'))
}

function lowerThreads(isMeant: (name: string) => boolean): void {
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      if (!isMeant(readFileSync(`/proc/self/task/${thread}/comm`, 'utf8'))) continue
      // Never higher than it was: only root may, and whoever started the process chose.
      setPriority(Number(thread), Math.max(getPriority(Number(thread)), LOW))
    } catch {
      // The thread has ended, or may not be seen: it keeps its priority, and all works as before.
    }
  }
}
