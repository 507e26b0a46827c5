import { expect } from 'vitest'
import type { Config, HandlerDefinition } from '@ringback/core/config'
import { configWith, eventually, postCallbacks, startIngest, startWorker } from './ringback.ts'
import type { Database } from './ringback.ts'

/** One handler for everything that, where `retry` does not say otherwise, is tried once. */
export function notifying(
  run: HandlerDefinition['run'],
  retry: HandlerDefinition['retry'] = { maxAttempts: 1 },
): Config {
  return configWith({
    handlers: [{ name: 'notify', run, retry: { firstDelayMs: 100, maxDelayMs: 100, ...retry } }],
  })
}

/** Receives callbacks in one request, and waits until their deliveries have come to an end. */
export async function deliver(database: Database, config: Config, ...callbacks: unknown[]): Promise<void> {
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, ...callbacks)
  await untilEnded(database)
}

/** Waits until there are deliveries, and all have come to an end. */
export async function untilEnded({ sql }: Database): Promise<void> {
  await eventually(async () => {
    expect(await sql`select from deliveries`).not.toHaveLength(0)
    expect(await sql`select from deliveries where status = 'pending'`).toHaveLength(0)
    expect(await sql`select from attempts where outcome is null`).toHaveLength(0)
  })
}

/** What became of each delivery: its last error, and the status that its last attempt was answered with. */
export function outcomes({ sql }: Database) {
  return sql`
    select d.status, d.attempts, d.last_error as error, a.status_code as code
    from deliveries as d left join attempts as a on a.delivery_id = d.id and a.number = d.attempts`
}

/** Everything that is kept of deliveries, for secrets to be looked for. */
export async function kept({ sql }: Database): Promise<string> {
  return JSON.stringify([await sql`select * from deliveries`, await sql`select * from attempts`])
}
