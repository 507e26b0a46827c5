import type { Sql } from '@ringback/core/store/connect'
import type { Command } from 'commander'
import { readConfig, withSql } from '../environment.ts'
import { assertNotOnlyKept } from '../kept.ts'
import { idFrom } from '../options.ts'
import { table, wantsJson } from '../output.ts'

/** `ringback replay` */
export function addReplayCommand(program: Command): void {
  program
    .command('replay')
    .description("run an event's deliveries again, or one delivery: more attempts, never a second event")
    .argument('<id>', 'the id of an event or of a delivery', idFrom('events'))
    .option('--handler <name>', 'only this handler, even if the event has no delivery of it, whatever its `on`')
    .action(async (id: string, { handler }: { handler?: string }, command: Command) => {
      const replayed = await withSql((sql) => replay(sql, id, handler))
      if (wantsJson(command)) for (const delivery of replayed) console.log(JSON.stringify(delivery))
      else if (replayed.length === 0) console.log('Nothing to replay: all of it is still being tried')
      else console.log(`Runs again:\n${table(replayed.map(({ id: delivery, ...rest }) => ({ delivery, ...rest })))}`)
    })
}

interface Replayed {
  id: string
  handler: string
  attempts: number
}

/**
 * Makes finished deliveries pending again; the scanner of any worker takes them within a second or so. The retry policy
 * starts anew. A pending one is left alone, because it might then run twice.
 */
async function replay(sql: Sql, id: string, handler: string | undefined): Promise<Replayed[]> {
  const found = await sql<{ id: string; receivedAt: string }[]>`
    select id, event_received_at::text as "receivedAt"
    from deliveries
    where (event_id = ${id} or id = ${id}) and (${handler ?? null}::text is null or handler = ${handler ?? null})`
  if (found.length === 0) {
    const [event] = await sql<{ type: string }[]>`select type from events where id = ${id}`
    if (event === undefined) {
      await assertNotOnlyKept(sql, id)
      throw new Error(`There is no event and no delivery ${id}; it may be older than what is kept`)
    }
    if (handler !== undefined) return addDelivery(sql, id, handler)
    throw new Error(
      `The event ${id} has no deliveries: no handler matched its type "${event.type}" when it was stored. With --handler, one runs all the same`,
    )
  }
  return sql<Replayed[]>`
    update deliveries
    set
      status = 'pending', next_attempt_at = now(), lease_until = null, finished_at = null, attempts_at_replay = attempts
    where status <> 'pending'
      and id in (select json_array_elements_text(${JSON.stringify(found.map((delivery) => delivery.id))}::json)::uuid)
      and event_received_at = ${found[0]!.receivedAt}::text::timestamptz
    returning id, handler, attempts`
}

/** For a handler that did not act on the event when it was stored: it was not there yet, or its `on` did not match. */
async function addDelivery(sql: Sql, eventId: string, handler: string): Promise<Replayed[]> {
  const { handlers } = await readConfig()
  if (!handlers.some(({ name }) => name === handler)) {
    throw new Error(
      `The event ${eventId} has no delivery of a handler "${handler}", and the configuration has no such handler`,
    )
  }
  // Another replay may add it at the same moment.
  return sql<Replayed[]>`
    insert into deliveries (event_id, event_received_at, handler, next_attempt_at)
    select id, received_at, ${handler}, now() from events where id = ${eventId}
    on conflict (event_id, handler, event_received_at) do nothing
    returning id, handler, attempts`
}
