import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QueuedCanary } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Enqueuer } from './enqueue.ts'

export interface CanaryOptions {
  enqueuer: Pick<Enqueuer, 'enqueue' | 'isQueueDown'>
  intervalMs: number
  /** What waits in the spool, if there is one. */
  spool?: (() => { groups: number; bytes: number }) | undefined
  /** Resolves to a description if the queue's server has lost what it acknowledged to us. Rejects if it does not answer. */
  detectLoss: () => Promise<string | undefined>
  /** Called for each canary that has become durable. */
  onSent?: () => void
  log: Logger
}

export interface Canary {
  /** Sends a last canary, if the queue is up, so that nobody waits for another. */
  close: () => Promise<void>
}

/**
 * Sends a canary at once and then every `intervalMs`, among the callbacks. While the queue is down it sends none: one that
 * had waited in the spool would say nothing about the path at the time when it arrives.
 */
export function startCanary({ enqueuer, intervalMs, spool, detectLoss, onSent, log }: CanaryOptions): Canary {
  const own = { ingest: `${hostname()}:${process.pid}`, host: hostname() }
  const startedAt = performance.now()
  /** A loss that no durable canary has reported yet. */
  let lost: string | undefined
  const closing = new AbortController()

  async function send(end: Pick<QueuedCanary, 'isLast'>): Promise<void> {
    if (enqueuer.isQueueDown()) return
    const found = await detectLoss()
    if (found !== undefined) {
      lost = found
      log.error({ description: found }, 'queue.data_lost')
    }
    const waiting = spool?.()
    const canary: QueuedCanary = {
      ...own,
      // The clock may have been wrong at the start, as it is while a machine without a battery boots.
      startedAt: Date.now() - Math.round(performance.now() - startedAt),
      sentAt: Date.now(),
      ...(waiting !== undefined && { spool: { groups: waiting.groups, bytes: waiting.bytes } }),
      ...(lost !== undefined && { lost }),
      ...end,
    }
    await enqueuer.enqueue([{ kind: 'canary', json: JSON.stringify(canary) }])
    onSent?.()
    lost = undefined
  }

  // The enqueuer logs what fails, and the missing canary shows it too.
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
