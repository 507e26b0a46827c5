import { withCleanPayload } from '@ringback/core/callback'
import type { Group, QueuedCallback, QueuedDrop, QueuedRefusal } from '@ringback/core/callback'
import type { Match } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'
import type { Sql } from '@ringback/core/store/connect'
import { sqlState } from './postgres-errors.ts'
import { storeCallbacks } from './store-callbacks.ts'
import type { Stored } from './store-callbacks.ts'

/**
 * Stores a group of which Postgres refuses something: with cleaned payloads, and halved until what is still refused stands
 * alone and goes to quarantine. This is one transaction, so that the group is stored once and as a whole. `isRefusal`
 * says which errors are refusals; any other rejects. Resolves to undefined if the group had been stored before.
 */
export function storePieces(
  { sql, log }: { sql: Sql; log: Logger },
  groupId: string,
  { group, matched, isRefusal }: { group: Group; matched: Match[]; isRefusal: (error: unknown) => boolean },
): Promise<Stored | undefined> {
  return sql.begin(async (transaction) => {
    const [claimed] =
      await transaction`insert into store_groups (id) values (${groupId}) on conflict do nothing returning id`
    if (claimed === undefined) return undefined

    const total: Stored = { stored: 0, duplicates: 0, deliveries: [] }
    const add = (part: Stored) => {
      total.stored += part.stored
      total.duplicates += part.duplicates
      total.deliveries.push(...part.deliveries)
    }

    async function storeOrHalve(callbacks: QueuedCallback[]): Promise<void> {
      if (callbacks.length === 0) return
      try {
        add(await transaction.savepoint((savepoint) => storeCallbacks(savepoint, { callbacks, matched })))
      } catch (error) {
        if (!isRefusal(error)) throw error
        if (callbacks.length === 1) {
          if (isThere(error)) return
          log.error({ eventId: callbacks[0]!.id, error: (error as Error).message }, 'callback.not_storable')
          await storeRefusals([notStorable(callbacks[0]!, error as Error)])
          return
        }
        const middle = Math.ceil(callbacks.length / 2)
        await storeOrHalve(callbacks.slice(0, middle))
        await storeOrHalve(callbacks.slice(middle))
      }
    }

    async function storeRefusals(quarantined: QueuedRefusal[]): Promise<void> {
      if (quarantined.length === 0) return
      try {
        await transaction.savepoint((savepoint) => storeCallbacks(savepoint, { quarantined }))
      } catch (error) {
        if (!isRefusal(error)) throw error
        if (quarantined.length > 1) {
          for (const refusal of quarantined) await storeRefusals([refusal])
          return
        }
        if (isThere(error)) return
        // Its method, URL or headers cannot be stored either. What counts is the bytes and the reason.
        const { id, source, reason, scope, body } = quarantined[0]!
        await storeCallbacks(transaction, {
          quarantined: [
            { id, source, reason, scope, body, method: '', url: '', headers: {}, error: (error as Error).message },
          ],
        })
      }
    }

    await storeOrHalve((JSON.parse(group.callbacks) as QueuedCallback[]).map(withCleanPayload))
    await storeRefusals(JSON.parse(group.quarantined) as QueuedRefusal[])
    await storeCallbacks(transaction, { dropped: JSON.parse(group.dropped) as QueuedDrop[] })
    return total
  })
}

/** Whether the row exists already, from a group that was stored so long ago that the group's own id is pruned. */
function isThere(error: unknown): boolean {
  return sqlState(error) === '23505'
}

function notStorable(callback: QueuedCallback, error: Error): QueuedRefusal {
  const { id, source, method, url, headers, raw: body, callbackId } = callback
  const why = { reason: 'not_storable', scope: 'callback', error: error.message } as const
  return { id, source, ...why, method, url, headers, body, callbackId }
}
