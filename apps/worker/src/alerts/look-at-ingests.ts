import type { TransactionSql } from '@ringback/core/store/connect'
import type { LookDependencies } from './look.ts'
import type { Condition } from './transitions.ts'

const GONE_AFTER_SECONDS = 3600
/** How many ingests get an alert of their own. */
const MOST_INGESTS = 20

/** One of several ingests counts as gone after an hour of silence. If all are silent, the alert stays open for a day. */
export async function lookForCanaries({ sql, config }: LookDependencies): Promise<Condition[]> {
  const { canarySeconds } = config.alerts
  const found = await sql<{ name: string; lastSentAt: Date; lastStoredAt: Date; seconds: number }[]>`
    select
      name, canary_sent_at as "lastSentAt", canary_stored_at as "lastStoredAt",
      floor(extract(epoch from now() - least(canary_sent_at, canary_stored_at)))::integer as seconds
    from ingests as i
    where ${isExpected(sql)}
      and canary_stored_at > now() - interval '1 day'
    order by seconds, name`
  const late = found.filter(({ seconds }) => seconds > canarySeconds)
  const [newest] = late
  if (newest === undefined) return []
  if (late.length === found.length) {
    const { name: ingest, seconds, lastSentAt, lastStoredAt } = newest
    return [
      {
        kind: 'canary_late',
        subject: '',
        text: `nothing that ingest has sent within the last ${seconds} s is stored: ingest is down, or the queue or the workers do not pass on what it accepts`,
        details: { ingest, lastSentAt, lastStoredAt },
      },
    ]
  }
  return late
    .filter(({ seconds }) => seconds < GONE_AFTER_SECONDS)
    .slice(0, MOST_INGESTS)
    .map(({ name, seconds, lastSentAt, lastStoredAt }) => ({
      kind: 'canary_late',
      subject: name,
      text: `nothing that the ingest "${name}" has sent within the last ${seconds} s is stored, unlike that of others: it is down, cut off from the queue, or its clock is wrong`,
      details: { lastSentAt, lastStoredAt },
    }))
}

/** Includes an ingest that has ended, for a day, unless another on its host was heard of since: that one drains it. */
export async function lookForSpools({ sql }: LookDependencies): Promise<Condition[]> {
  const found = await sql<{ name: string; groups: number; bytes: number; lastStoredAt: Date }[]>`
    select name, spool_groups::float8 as groups, spool_bytes::float8 as bytes, canary_stored_at as "lastStoredAt"
    from ingests as i
    where spool_groups > 0
      and canary_stored_at > now() - interval '1 day'
      and not exists (
        select from ingests as later
        where later.host = i.host
          and later.name <> i.name
          and later.canary_stored_at > i.canary_stored_at + interval '1 minute'
      )
    order by spool_bytes desc, name
    limit ${MOST_INGESTS}`
  return found.map(({ name, groups, bytes, lastStoredAt }) => ({
    kind: 'spool_in_use',
    subject: name,
    text: `${groups} groups of callbacks (${bytes} bytes) wait on the disk of the ingest "${name}": the queue did not take them`,
    details: { groups, bytes, lastStoredAt },
  }))
}

/** Whether canaries of ingest `i` should come: not if it ended in good order, nor if another on its host has replaced it. */
export function isExpected(sql: TransactionSql) {
  return sql`
    i.left_at is null
    and not exists (
      select from ingests as later
      where later.host = i.host
        and later.name <> i.name
        and later.started_at > least(i.canary_sent_at, i.canary_stored_at)
    )`
}
