import { MOST_AHEAD, MOST_COUNTED } from './look.ts'
import type { LookDependencies } from './look.ts'
import type { Condition } from './transitions.ts'

/** Measured by what waits in the queue and by the newest events. Neither has what a worker has in hand but cannot store. */
export async function lookForLag({ sql, config, queueAgeMs }: LookDependencies): Promise<Condition[]> {
  const [found] = await sql<{ seconds: number | null }[]>`
    select round(extract(epoch from max(stored_at - received_at)))::integer as seconds
    from (
      select stored_at, received_at
      from events
      where received_at > now() - interval '7 days' and received_at < now() + ${MOST_AHEAD}::text::interval
      order by id desc
      limit 100
    ) as newest
    where stored_at > now() - interval '1 minute'`
  const seconds = Math.max(found?.seconds ?? 0, Math.floor((await queueAgeMs()) / 1000))
  if (seconds < config.alerts.storeLagSeconds) return []
  return [
    {
      kind: 'store_lagging',
      subject: '',
      text: `callbacks wait ${seconds} s until they are stored: the workers do not keep up`,
      details: { seconds },
    },
  ]
}

/** The alert stays open for an hour: a loss cannot be undone, but somebody must know of it. */
export async function lookForLosses({ sql }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ description: string; detectedBy: string; detectedAt: Date }[]>`
    select description, detected_by as "detectedBy", detected_at as "detectedAt"
    from queue_losses
    where detected_at > now() - interval '1 hour'
    order by detected_at desc
    limit ${MOST_COUNTED}`
  const [newest] = found
  if (newest === undefined) return []
  const { description, ...details } = newest
  return [
    {
      kind: 'queue_data_lost',
      subject: '',
      occurrences: found.length,
      text: `acknowledged callbacks may be lost: ${description}`,
      details,
    },
  ]
}
