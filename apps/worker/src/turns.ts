/** How many attempts of one handler a worker has under way at most, over all its jobs. */
export const MAX_ATTEMPTS = 400

export interface TurnLimits {
  /** How many jobs of one handler run at once, so that a destination, however slow, leaves room for others. */
  perHandler: number
  /** With this many jobs in hand, over all handlers, none waits for its turn. */
  crowd: number
  /** How long a job may wait for its turn. */
  maxWaitMs: number
}

/** Decides whose job may run: a few of each handler, while some more wait for their turn. */
export interface Turns {
  /** Resolves to whether the job may run; if so, `end` must follow. One that goes first has the next turn, crowded or not. */
  begin: (handler: string, goesFirst?: boolean) => Promise<boolean>
  end: (handler: string) => void
  /** Whether another job of the handler would have to wait. */
  isFull: (handler: string) => boolean
  /** Whether so many jobs are in hand that none should wait for anything. */
  isCrowded: () => boolean
}

/** Makes the turns for the jobs of one process. */
export function createTurns({ perHandler, crowd, maxWaitMs }: TurnLimits): Turns {
  const running = new Map<string, number>()
  /** By handler, in the order of their turns. */
  const waiting = new Map<string, ((mayRun: boolean) => void)[]>()
  let inHand = 0

  const isFull = (handler: string) => (running.get(handler) ?? 0) >= perHandler
  const isCrowded = () => inHand >= crowd

  async function begin(handler: string, goesFirst = false): Promise<boolean> {
    if (isFull(handler) && isCrowded() && !goesFirst) return false
    inHand += 1
    if (isFull(handler)) {
      // A job that ends passes its turn on.
      const mayRun = await turnOf(handler, goesFirst)
      if (!mayRun) inHand -= 1
      return mayRun
    }
    running.set(handler, (running.get(handler) ?? 0) + 1)
    return true
  }

  function turnOf(handler: string, goesFirst: boolean): Promise<boolean> {
    const own = waiting.getOrInsertComputed(handler, () => [])
    const { promise, resolve } = Promise.withResolvers<boolean>()
    if (goesFirst) own.unshift(resolve)
    else own.push(resolve)
    const timer = setTimeout(() => {
      own.splice(own.indexOf(resolve), 1)
      resolve(false)
    }, maxWaitMs)
    return promise.finally(() => clearTimeout(timer))
  }

  function end(handler: string): void {
    inHand -= 1
    const next = waiting.get(handler)?.shift()
    if (next === undefined) running.set(handler, running.get(handler)! - 1)
    else next(true)
  }

  return { begin, end, isFull, isCrowded }
}
