import { withTimeout } from '@ringback/core/with-timeout'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'

/** Records in the table `workers` that this worker is alive. */
export async function beat(sql: Sql, worker: string): Promise<void> {
  await sql`
    insert into workers (name) values (${worker})
    on conflict (name) do update set seen_at = excluded.seen_at`
}

const PROBE_TIMEOUT_MS = 5000

/** Writes over a connection of its own, which does not depend on the worker's others. Takes 5 s at most, else rejects. */
export async function probePostgres(databaseUrl: string, worker: string): Promise<void> {
  const sql = connect(databaseUrl, { max: 1, applicationName: 'ringback watchdog', longestStatementMs: 3000 })
  const tooSlow = `Postgres has taken no write within ${PROBE_TIMEOUT_MS} ms`
  try {
    await withTimeout(beat(sql, worker), PROBE_TIMEOUT_MS, tooSlow)
  } finally {
    sql.end({ timeout: 0 }).catch(() => undefined) // the connection is of no further use
  }
}
