import { SMALL_BYTES } from './read-body.ts'

/** Does the work on a body of this size in its turn. Resolves to undefined, without it, if its turn does not come in time. */
export type InTurn = <Result>(bodyBytes: number, work: () => Promise<Result>) => Promise<Result | undefined>

export interface TurnLimits {
  /** How many bytes of large bodies are worked on at a time. A larger body is worked on alone. */
  maxBytes: number
  /** How many bytes of large bodies may wait. */
  maxWaitingBytes: number
  maxWaitMs: number
}

interface Waiting {
  bodyBytes: number
  start: () => void
}

/**
 * Makes large bodies take turns, in the order in which they came; small ones never wait. One of 1 MiB keeps this process's only
 * thread busy for tens of milliseconds. If all that come at once were worked on at once, none would be durable before its
 * deadline. So what cannot be done in time is given up before work is done for it, and the time goes to the others.
 */
export function createTurns({ maxBytes, maxWaitingBytes, maxWaitMs }: TurnLimits): InTurn {
  let bytes = 0
  let waitingBytes = 0
  const waiting = new Set<Waiting>()

  async function takeTurn(bodyBytes: number): Promise<boolean> {
    if (waitingBytes + bodyBytes > maxWaitingBytes) return false
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const own = { bodyBytes, start: () => resolve(true) }
    waiting.add(own)
    waitingBytes += bodyBytes
    const timer = setTimeout(() => {
      leave(own)
      resolve(false)
      startNext()
    }, maxWaitMs)
    startNext()
    const isStarted = await promise
    clearTimeout(timer)
    return isStarted
  }

  function startNext(): void {
    for (const next of waiting) {
      if (bytes > 0 && bytes + next.bodyBytes > maxBytes) return
      leave(next)
      bytes += next.bodyBytes
      next.start()
    }
  }

  function leave(one: Waiting): void {
    waiting.delete(one)
    waitingBytes -= one.bodyBytes
  }

  return async (bodyBytes, work) => {
    if (bodyBytes <= SMALL_BYTES) return work()
    if (!(await takeTurn(bodyBytes))) return undefined
    try {
      return await work()
    } finally {
      bytes -= bodyBytes
      startNext()
    }
  }
}
