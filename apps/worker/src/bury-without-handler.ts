import type { Handler } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { textList } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'

export interface BurialDependencies {
  sql: Sql
  handlers: readonly Handler[]
  onDead: (handler: string, count: number) => void
  log: Logger
  signal: AbortSignal
}

/** How long a delivery without a handler is left alone: a worker with a newer configuration may know the handler. */
const GRACE = '10 minutes'

/** How many deliveries one statement makes dead letters. */
const BURIED_AT_ONCE = 5000

/** Makes dead letters of deliveries whose handler has gone from the configuration, until the worker stops. */
export async function buryWithoutHandler({ sql, handlers, onDead, log, signal }: BurialDependencies): Promise<void> {
  const names = handlers.map(({ name }) => name)
  const gone = await sql<{ handler: string }[]>`
    select distinct handler
    from deliveries
    where status = 'pending'
      and next_attempt_at < now() - ${GRACE}::text::interval
      and handler not in ${textList(sql, names)}`
  for (const { handler } of gone) {
    for (let count = BURIED_AT_ONCE; count === BURIED_AT_ONCE && !signal.aborted;) {
      count = await buryBatch(sql, handler)
      if (count === 0) break
      onDead(handler, count)
      log.error({ handler, count }, 'deliveries.without_handler')
    }
  }
}

/** Skips what another worker is burying, or a person is changing, at this moment. Resolves to how many it made dead letters. */
async function buryBatch(sql: Sql, handler: string): Promise<number> {
  const { count } = await sql`
    with taken as materialized (
      select id, event_received_at, attempts
      from deliveries
      where handler = ${handler}
        and status = 'pending'
        and next_attempt_at < now() - ${GRACE}::text::interval
        and (lease_until is null or lease_until < now())
      limit ${BURIED_AT_ONCE}
      for update skip locked
    ),
    abandoned as (
      update attempts as a
      set outcome = 'abandoned', duration_ms = extract(epoch from now() - a.started_at) * 1000
      from taken
      where a.delivery_id = taken.id and a.event_received_at = taken.event_received_at and a.number = taken.attempts
        and a.outcome is null
    )
    update deliveries as d
    set
      status = 'dead', next_attempt_at = null, lease_until = null, running = false, finished_at = now(),
      last_error = format('the handler "%s" is not in the configuration any more', d.handler)
    from taken
    where d.id = taken.id and d.event_received_at = taken.event_received_at`
  return count
}
