import { setTimeout as sleep } from 'node:timers/promises'
import type { StoreJob } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Producer } from '@ringback/core/queue'
import { closeWithin } from '@ringback/core/service'
import { openSpool } from '@ringback/core/spool'
import type { Spool, SpooledGroup } from '@ringback/core/spool'
import { holdsGroups, spoolFolders } from '@ringback/core/spools'

export interface DrainOptions {
  /** The folder of the spools; each is a sub-folder. */
  dir: string
  own: Spool
  maxBytes: number
  memoryUsage: Producer<StoreJob>['memoryUsage']
  isQueueDown: () => boolean
  /**
   * Makes a producer, which is closed when a spool is drained. Nobody waits for these adds, so their time limit should be
   * long: a group that always takes longer would stay, with all that is behind it.
   */
  openProducer: () => Pick<Producer<StoreJob>, 'add' | 'close'>
  log: Logger
  /** How long to wait between two looks at the spools. */
  intervalMs?: number
}

const INTERVAL_MS = 1000
/** What waits here leaves room for new callbacks, which the queue takes up to 90 %. */
const ROOM_UNDER = 0.7
/** How long closing a producer may take: on a dead connection nobody answers the good-bye. */
const CLOSE_MS = 1000

/**
 * Moves spooled groups to the queue from now on, whenever it is up and has room: one group at a time, so that new callbacks
 * are not held up. This ingest's own spool comes first, then those that ingests which are gone have left.
 */
export function drainSpools(options: DrainOptions): { close: () => Promise<void> } {
  const { dir, own, maxBytes, memoryUsage, isQueueDown, openProducer, log } = options
  const closing = new AbortController()
  const { signal } = closing

  const mayDrain = async () => !isQueueDown() && (await memoryUsage()) < ROOM_UNDER

  async function drain(spool: Spool): Promise<void> {
    if (spool.usage().bytes === 0 || !(await mayDrain())) return
    const producer = openProducer()
    let drained = 0
    async function add({ id, job }: SpooledGroup): Promise<void> {
      signal.throwIfAborted()
      if (!(await mayDrain())) throw new Error('the queue is down, or has no room for what may wait')
      // The queue may have it already, from an add that timed out or a drain that was cut short. The worker stores it once.
      await producer.add(id, job as StoreJob)
      drained += 1
    }
    try {
      await spool.drain(add)
    } finally {
      // Nothing has left a spool whose only file cannot be read, and it is tried every second.
      if (drained > 0) log.info({ folder: spool.folder, drained, left: spool.usage().groups }, 'spool.drained')
      await closeWithin({ ms: CLOSE_MS, part: 'queue of the spool', log }, producer.close)
    }
  }

  async function adopt(folder: string): Promise<void> {
    if (!(await holdsGroups(folder)) || !(await mayDrain())) return
    const abandoned = await openSpool(folder, { maxBytes, log })
    if (abandoned === undefined) return
    log.warn({ folder, ...abandoned.usage() }, 'spool.adopted')
    await drain(abandoned).finally(() => abandoned.close())
  }

  /** A spool that cannot be drained holds up no other. */
  async function attempt(folder: string, draining: Promise<void>): Promise<void> {
    await draining.catch((error: unknown) => {
      if (!signal.aborted) log.warn({ folder, error: (error as Error).message }, 'spool.waits')
    })
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await attempt(own.folder, drain(own))
      for (const folder of await spoolFolders(dir)) {
        if (folder !== own.folder && !signal.aborted) await attempt(folder, adopt(folder))
      }
      await sleep(options.intervalMs ?? INTERVAL_MS, undefined, { signal }).catch(() => undefined)
    }
  }
  const running = run()

  return {
    close: () => {
      closing.abort()
      return running
    },
  }
}
