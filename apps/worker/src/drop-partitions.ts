import type { Logger } from '@ringback/core/log'
import { textList } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { announcePartitions } from '@ringback/core/store/partitions'
import type { Retention } from './retention.ts'

// Expired weeks are dropped as whole partitions, and nobody who stores or reads waits for that: a partition is detached
// "concurrently", which takes no lock that an insert would wait for. Once nobody can reach it, its dead letters are copied
// out, and it is dropped. A run that was cut short anywhere in between is finished by the next.

/**
 * Tables whose rows belong to events: `deliveries` first, for they decide whether a week may go, and `events` before
 * `duplicates`, for a repetition is kept only if its event is there. While a partition waits for those who read it,
 * nothing can be inserted into it.
 */
const OF_EVENTS = ['deliveries', 'events', 'attempts', 'duplicates']

/**
 * Makes the function that drops expired partitions. It must be called on a connection with a lock_timeout, by one worker at
 * a time. A partition that is still in use then is left to the next call.
 */
export function createDropPartitions(retention: Retention, log: Logger): (sql: Sql) => Promise<void> {
  /** Weeks for which it has been logged that they stay because of pending deliveries. */
  const said = new Set<string>()

  return dropPartitions

  async function dropPartitions(sql: Sql): Promise<void> {
    try {
      // Postgres detaches one partition of a table at a time: behind one that is in use, later weeks wait.
      for (const week of await expiredWeeks(sql, OF_EVENTS, retention.days)) {
        if (!(await dropEvents(sql, week))) break
      }
    } finally {
      // A week of events that cannot be dropped keeps no refusals.
      for (const week of await expiredWeeks(sql, ['quarantine'], retention.quarantineDays)) {
        if (!(await detach(sql, 'quarantine', week))) break
        await drop(sql, ['quarantine'], week)
      }
    }
  }

  /**
   * Drops a week of events, unless it has pending deliveries: then all of it stays, because what is still to be done is
   * never dropped. Resolves to false if one of its partitions is still in use.
   */
  async function dropEvents(sql: Sql, week: string): Promise<boolean> {
    const keep = async () => {
      // A partition that has been detached already is attached again.
      const [start] = await sql<{ at: string }[]>`
        select (to_date(${week}, 'IYYY"w"IW')::timestamp at time zone 'UTC')::text as at`
      const [row] = await sql<{ attached: number }[]>`
        select ensure_partitions(${start!.at}::text::timestamptz, ${start!.at}::text::timestamptz) as attached`
      if (row!.attached > 0) await announcePartitions(sql)
      if (!said.has(week)) log.warn({ week }, 'partition.has_pending')
      said.add(week)
      return true
    }
    if (await hasPending(sql, week)) return keep()
    for (const parent of OF_EVENTS) {
      if (!(await detach(sql, parent, week))) return false
      // A delivery may have been made pending again until it was detached; from now on none can be.
      if (parent === 'deliveries' && (await hasPending(sql, week))) return keep()
    }
    await drop(sql, OF_EVENTS, week)
    return true
  }

  /** Detaches a partition, unless it is detached already. Resolves to false if it is still in use after the lock_timeout. */
  async function detach(sql: Sql, parent: string, week: string): Promise<boolean> {
    const name = `${parent}_${week}`
    const [attached] = await sql<{ isPending: boolean }[]>`
      select inhdetachpending as "isPending" from pg_inherits where inhrelid = to_regclass(${name})`
    if (attached === undefined) return true
    const how = attached.isPending ? 'finalize' : 'concurrently'
    try {
      await sql.unsafe(`alter table ${parent} detach partition ${name} ${how}`)
      return true
    } catch (error) {
      if ((error as { code?: string }).code !== '55P03') throw error
      log.info({ partition: name }, 'partition.in_use')
      return false
    }
  }

  /** Drops detached partitions of one week, with what is to be kept copied out, in one transaction. */
  async function drop(sql: Sql, parents: string[], week: string): Promise<void> {
    const names = parents.map((parent) => `${parent}_${week}`)
    const isOfEvents = parents.includes('events')
    const keptDeadLetters = await sql.begin(async (transaction) => {
      // Keeps a late event from having them attached again at this moment.
      await transaction`select pg_advisory_xact_lock(hashtext('ringback.ensure_partitions'))`
      const found = await transaction<{ name: string; isAttached: boolean }[]>`
        select wanted.name, exists (select from pg_inherits where inhrelid = to_regclass(wanted.name)) as "isAttached"
        from json_array_elements_text(${JSON.stringify(names)}::json) as wanted (name)
        where to_regclass(wanted.name) is not null`
      if (found.some(({ isAttached }) => isAttached)) return undefined
      const [row] =
        isOfEvents && found.length === parents.length && retention.deadLetterDays > 0
          ? await transaction<{ kept: number }[]>`select keep_dead_letters(${week})::float8 as kept`
          : []
      await transaction.unsafe(`drop table ${found.map(({ name }) => name).join(', ')}`)
      await transaction`delete from partitions_made where name in ${textList(transaction, names)}`
      return row?.kept ?? 0
    })
    if (keptDeadLetters === undefined) return
    log.info({ week, tables: parents, ...(isOfEvents && { keptDeadLetters }) }, 'partition.dropped')
  }
}

/** The weeks, such as 2026w05, that have expired tables, attached or not. The oldest comes first. */
async function expiredWeeks(sql: Sql, parents: string[], keptDays: number): Promise<string[]> {
  const rows = await sql<{ week: string }[]>`
    select week
    from (
      select substring(relname from '\\d{4}w\\d{2}$') as week, made_at
      from pg_class
      left join partitions_made on name = relname
      where relnamespace = current_schema()::regnamespace
        and relkind = 'r'
        and relname ~ ('^(' || ${parents.join('|')}::text || ')_\\d{4}w\\d{2}$')
    ) as tables
    group by week
    having greatest((to_date(week, 'IYYY"w"IW') + 7)::timestamp at time zone 'UTC', max(made_at))
      <= now() - ${keptDays} * interval '1 day'
    order by week`
  return rows.map(({ week }) => week)
}

async function hasPending(sql: Sql, week: string): Promise<boolean> {
  const name = `deliveries_${week}`
  const [table] = await sql`select from pg_class where oid = to_regclass(${name})`
  if (table === undefined) return false
  const pending = await sql.unsafe(`select from ${name} where status = 'pending' limit 1`)
  return pending.length > 0
}
