import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QueuedCanary } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Enqueuer } from './enqueue.ts'

export interface CanaryOptions {
  enqueuer: Pick<Enqueuer, 'enqueue' | 'isQueueAway'>
  intervalMs: number
  /** What waits in the spool, where there is one. */
  spool?: (() => { groups: number; bytes: number }) | undefined
  /** A sentence if the queue's server has lost what it had acknowledged to this process. Rejects if it does not answer. */
  detectLoss: () => Promise<string | undefined>
  /** Told of each canary that has become durable. */
  onSent?: () => void
  log: Logger
}

export interface Canary {
  /** Says goodbye, if the queue is there, so that nobody waits for the next one. */
  close: () => Promise<void>
}

/**
 * Sends a canary at once and then every `intervalMs`, among the callbacks. While the queue is away it sends none: a
 * canary that waited in the spool would tell of a way that callbacks do not have at that moment.
 */
export function startCanary({ enqueuer, intervalMs, spool, detectLoss, onSent, log }: CanaryOptions): Canary {
  const own = { ingest: `${hostname()}:${process.pid}`, host: hostname(), startedAt: Date.now() }
  /** Kept until a canary has told of it. */
  let lost: string | undefined
  const closing = new AbortController()

  async function send(end: Pick<QueuedCanary, 'isLast'>): Promise<void> {
    if (enqueuer.isQueueAway()) return
    const found = await detectLoss()
    if (found !== undefined) {
      lost = found
      log.error({ description: found }, 'queue.data_lost')
    }
    const waiting = spool?.()
    const canary: QueuedCanary = {
      ...own,
      sentAt: Date.now(),
      ...(waiting !== undefined && { spool: { groups: waiting.groups, bytes: waiting.bytes } }),
      ...(lost !== undefined && { lost }),
      ...end,
    }
    await enqueuer.enqueue([{ kind: 'canary', json: JSON.stringify(canary) }])
    onSent?.()
    lost = undefined
  }

  // What goes wrong here is said by the enqueuer, and is seen from the canary that does not come.
  const attempt = (end: Pick<QueuedCanary, 'isLast'>) =>
    send(end).catch((error: Error) => log.debug({ error: error.message }, 'canary.not_sent'))

  const sending = (async () => {
    while (!closing.signal.aborted) {
      await attempt({})
      await sleep(intervalMs, undefined, { signal: closing.signal }).catch(() => undefined) // ends the pause
    }
  })()

  return {
    async close() {
      closing.abort()
      await sending
      await attempt({ isLast: true })
    },
  }
}
