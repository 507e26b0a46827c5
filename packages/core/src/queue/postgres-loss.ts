import { randomUUID } from 'node:crypto'
import type { Client, Pool } from 'pg'
import { advisoryLocks } from '../advisory-locks.ts'
import { COUNTER_TTL_MS, createLossDetector } from './loss.ts'

/** Creates the table of {@link createPostgresLossDetector}, in BullMQ's schema because it belongs to the queue. */
export async function createAliveTable(client: Client): Promise<void> {
  // In one transaction. While another process creates the table, "if not exists" alone would fail.
  await client.query(`
    select pg_advisory_xact_lock(${advisoryLocks.queueTable});
    create table if not exists bullmq.ringback_producers (
      process uuid primary key,
      count bigint not null,
      seen_at timestamptz not null
    )`)
}

/** Detects lost writes as on Redis, by a counter of this process: a promoted standby may lack its last increments. */
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
    const { rows } = await pool.query<{ count: string; at: number }>(
      `insert into bullmq.ringback_producers (process, count, seen_at) values ($1, 1, now())
      on conflict (process) do update set count = ringback_producers.count + 1, seen_at = now()
      returning count, (extract(epoch from now()) * 1000)::float8 as at`,
      [process],
    )
    return { count: Number(rows[0]!.count), at: rows[0]!.at }
  }
  return createLossDetector('Postgres', increment)
}

/** A name for the server's data and this database. It changes after initdb, and when the database is created anew. */
export async function postgresIdentity(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ identity: string }>(
    `select system_identifier || '-' || (select oid from pg_database where datname = current_database()) as identity
    from pg_control_system()`,
  )
  return rows[0]!.identity
}
