import type { Logger } from '@ringback/core/log'
import type { Producer } from '@ringback/core/queue'
import type { Sql } from '@ringback/core/store/connect'

export interface QueueLossDependencies {
  sql: Sql
  /** The producers of all queues that this worker adds jobs to. All are on one server. */
  producers: readonly Pick<Producer<object>, 'detectLoss' | 'identity'>[]
  /** The worker's own name. */
  worker: string
  log: Logger
}

/**
 * Makes the function that asks the queue's server whether it has lost what it acknowledged, and whether it still is the one
 * that Postgres knows. What it finds is logged and recorded in `queue_losses`. Rejects if a server does not answer.
 */
export function createDetectLosses({ sql, producers, worker, log }: QueueLossDependencies): () => Promise<void> {
  /** Losses that are not recorded in Postgres yet. */
  const found: string[] = []

  return async () => {
    for (const producer of producers) {
      const loss = await producer.detectLoss()
      if (loss === undefined || found.includes(loss)) continue
      log.error({ description: loss }, 'queue.data_lost')
      found.push(loss)
    }
    while (found.length > 0) {
      await remember(sql, worker, found[0]!)
      found.shift()
    }
    const identity = await producers[0]!.identity()
    if (await rememberIfAnother(sql, worker, identity)) log.error({ description: ANOTHER }, 'queue.data_lost')
  }
}

const ANOTHER =
  'the queue is not the one that was here before: its server began empty, or another has taken its place; what waited ' +
  'there and was not stored is not in it'

const MAX_TEXT_LENGTH = 1000

async function remember(sql: Sql, worker: string, description: string): Promise<void> {
  await sql`
    insert into queue_losses (detected_at, detected_by, description)
    values (clock_timestamp(), ${worker}, ${description.slice(0, MAX_TEXT_LENGTH)})`
}

/**
 * Records a loss if this identity is seen for the first time, where another was known in the same place. Resolves to whether
 * it did: for only one of several workers. It is one statement, because whoever asks next knows the identity. An added
 * shard does not count.
 */
async function rememberIfAnother(sql: Sql, worker: string, identity: string): Promise<boolean> {
  const shards = JSON.stringify(identity.split(',').map((part) => part.slice(0, MAX_TEXT_LENGTH)))
  const { count } = await sql`
    with seen as (
      insert into queue_identities as q (shard, identity)
      select ord, identity from json_array_elements_text(${shards}::json) with ordinality as s (identity, ord)
      order by ord
      -- Once a minute is enough: each worker asks every few seconds.
      on conflict (shard, identity) do update set last_seen_at = now()
      where q.last_seen_at < now() - interval '1 minute'
      returning shard, first_seen_at
    )
    insert into queue_losses (detected_at, detected_by, description)
    select clock_timestamp(), ${worker}, ${ANOTHER}
    where exists (
      select from seen join queue_identities as known using (shard) where seen.first_seen_at = now()
    )`
  return count > 0
}
