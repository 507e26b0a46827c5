import { randomUUID } from 'node:crypto'
import type { Client, Pool } from 'pg'
import { COUNTER_TTL_MS, createLossDetector } from './loss.ts'

/** The counters of {@link createPostgresLossDetector}, in BullMQ's schema, for they belong to the queue. */
export async function createAliveTable(client: Client): Promise<void> {
  await client.query(`
    create table if not exists bullmq.ringback_producers (
      process uuid primary key,
      count bigint not null,
      seen_at timestamptz not null
    )`)
}

/** As on Redis, a count of this process's own that must grow; a standby that is promoted may lack its last steps. */
export function createPostgresLossDetector(pool: Pool): () => Promise<string | undefined> {
  const process = randomUUID()
  let isFirst = true
  const increment = async () => {
    if (isFirst) {
      await pool.query(`delete from bullmq.ringback_producers where seen_at < now() - $1 * interval '1 ms'`, [
        COUNTER_TTL_MS,
      ])
      isFirst = false
    }
    const { rows } = await pool.query<{ count: string }>(
      `insert into bullmq.ringback_producers (process, count, seen_at) values ($1, 1, now())
      on conflict (process) do update set count = ringback_producers.count + 1, seen_at = now()
      returning count`,
      [process],
    )
    return Number(rows[0]!.count)
  }
  const detect = createLossDetector(increment, () => performance.now())
  return async () => {
    const loss = await detect()
    return loss === undefined ? undefined : `Postgres has lost writes: ${loss}`
  }
}

/** Names the server's data and the database in it: another after initdb, or after the database was made anew. */
export async function postgresIdentity(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ identity: string }>(
    `select system_identifier || '-' || (select oid from pg_database where datname = current_database()) as identity
    from pg_control_system()`,
  )
  return rows[0]!.identity
}
