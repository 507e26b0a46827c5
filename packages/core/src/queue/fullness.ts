// A Redis over its maxmemory refuses the workers' scripts too, so that nothing would ever drain. Producers therefore stop
// before that point, and those whose jobs can wait (apps/ingest/src/drain-spools.ts) stop earlier still.

export interface Fullness {
  /** Throws while the server is nearly full: from 90 % until it is under 85 %. Never waits: it reads in the background. */
  check: () => void
  /** Reads the usage, unless that was done within the last half second. Rejects if the server does not answer. */
  refresh: () => Promise<void>
  /** The usage that was last read; 0 before the first. */
  usage: () => number
}

const CLOSE_AT = 0.9
const OPEN_UNDER = 0.85
const REFRESH_INTERVAL_MS = 500

/**
 * Lets everything through until `readUsage` has answered for the first time.
 * @param readUsage how much of what the server may use it uses: 0 to 1, and 0 where it has no limit
 */
export function createFullness(readUsage: () => Promise<number>): Fullness {
  let usage = 0
  let isClosed = false
  let askedAt = -Infinity
  let asking: Promise<void> = Promise.resolve()

  function refresh(): Promise<void> {
    if (performance.now() - askedAt < REFRESH_INTERVAL_MS) return asking
    askedAt = performance.now()
    asking = ask()
    return asking
  }

  async function ask(): Promise<void> {
    usage = await readUsage()
    isClosed = usage >= (isClosed ? OPEN_UNDER : CLOSE_AT)
  }

  return {
    check() {
      void refresh().catch(() => {}) // the add itself will fail then; the usage last read still counts
      if (isClosed) throw new Error(`the queue's server is nearly full: ${Math.round(usage * 100)} % of its maxmemory`)
    },
    refresh,
    usage: () => usage,
  }
}

/** The part of maxmemory that is used, from the fields of INFO memory; 0 where there is no maxmemory. */
export function memoryUsage(info: Map<string, string>): number {
  const number = (name: string) => Number(info.get(name) ?? 0)
  const max = number('maxmemory')
  // As Redis itself compares: its buffers for replicas and the append-only file do not count.
  return max > 0 ? Math.max(0, number('used_memory') - number('mem_not_counted_for_evict')) / max : 0
}
