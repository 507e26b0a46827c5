import { randomUUIDv7 } from 'node:crypto'
import { storeJob } from '@ringback/core/callback'
import type { GroupPart, StoreJob } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Producer } from '@ringback/core/queue'
import type { Spool } from '@ringback/core/spool'

export interface CountsOptions {
  /** The kind of part as which counts are sent. */
  kind: GroupPart['kind']
  /** How long counts gather before they are sent. */
  intervalMs: number
  add: Producer<StoreJob>['add']
  /** Where counts go that the queue does not take at the end. Without a spool they are lost. */
  spool?: Pick<Spool, 'append'> | undefined
  log: Logger
}

export interface Counts<Entry extends object> {
  /** The entry of `key` since counts were last sent, to be changed at once. Undefined where there are too many entries. */
  entry: (key: string, create: () => Entry) => Entry | undefined
  /** Sends what there is, or puts it into the spool. */
  close: () => Promise<void>
}

/** Reached only where keys hold a time, in an outage of hours. */
const MAX_ENTRIES = 10_000

/** Gathers counts and sends them every `intervalMs`. They stay exact: a job that failed is sent again under the same id. */
export function createCounts<Entry extends object>({
  kind,
  intervalMs,
  add,
  spool,
  log,
}: CountsOptions): Counts<Entry> {
  let entries = new Map<string, Entry>()
  let unsent: { id: string; job: StoreJob } | undefined
  let timer: NodeJS.Timeout | undefined

  async function send(give = add): Promise<void> {
    if (unsent === undefined && entries.size > 0) {
      const parts = [...entries.values()].map((entry) => ({ kind, json: JSON.stringify(entry) }))
      unsent = { id: `group-${randomUUIDv7()}`, job: storeJob(parts) }
      entries = new Map()
    }
    if (unsent === undefined) return
    await give(unsent.id, unsent.job)
    unsent = undefined
  }

  async function sendAndContinue(): Promise<void> {
    await send().catch((error: Error) => log.warn({ kind, error: error.message }, 'counts.unsent'))
    timer = unsent !== undefined || entries.size > 0 ? setTimeout(sendAndContinue, intervalMs) : undefined
  }

  return {
    entry(key, create) {
      const known = entries.get(key)
      if (known !== undefined) return known
      if (entries.size >= MAX_ENTRIES) return undefined
      const created = create()
      entries.set(key, created)
      timer ??= setTimeout(sendAndContinue, intervalMs)
      return created
    },
    async close(): Promise<void> {
      clearTimeout(timer)
      // What failed before goes first, by itself; then what has been counted since.
      const sendAll = (give: typeof add) => send(give).then(() => send(give))
      await sendAll(add)
        .catch((error: Error) => {
          if (spool === undefined) throw error
          return sendAll((id, job) => spool.append({ id, at: Date.now(), job }))
        })
        .catch((error: Error) => log.error({ kind, error: error.message }, 'counts.lost'))
    },
  }
}
