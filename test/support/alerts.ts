import { randomUUIDv7 } from 'node:crypto'
import type { QueuedCallback } from '@ringback/core/callback'
import type { ConfigDefinition, HandlerDefinition } from '@ringback/core/config'
import { code } from '@ringback/core/handlers'
import { fonestorm } from '@ringback/core/providers/fonestorm'
import { telnyx } from '@ringback/core/providers/telnyx'
import { vobiz } from '@ringback/core/providers/vobiz'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { createEvaluateAlerts } from '@ringback/worker/evaluate-alerts'
import { configWith, groupOf, idAt, log, queued, storeOneByOne } from './ringback.ts'
import type { Database } from './ringback.ts'

const { accountId, apiKey, salt } = demoCredentials
export const sources = {
  voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] }),
  vobiz: vobiz({ urlTokens: 'token' }),
  fonestorm: fonestorm({ urlTokens: 'token' }),
  telnyx: telnyx({ urlTokens: 'token' }),
}

const toOperators: HandlerDefinition = { name: 'operators', on: { source: 'ringback' }, run: code(() => {}) }

/** Looks once for what is wrong, as each worker does every few seconds; somebody wants to be told. */
export function look(
  { sql }: Database,
  { handlers = [], ...definition }: Partial<ConfigDefinition> = {},
  queueAgeMs = async () => 0,
): Promise<void> {
  const config = configWith({ sources, ...definition, handlers: [...handlers, toOperators] })
  return createEvaluateAlerts({ sql, config, queueAgeMs, log })()
}

/** All alerts, each as `kind:subject state`. */
export async function alertsIn({ sql }: Database): Promise<string[]> {
  const rows = await sql<{ text: string }[]>`select key || ' ' || state as text from alerts order by raised_at, key`
  return rows.map(({ text }) => text)
}

/** What operators were told of, each as `raised:1 kind`. */
export async function noticesIn({ sql }: Database): Promise<string[]> {
  const rows = await sql<{ text: string }[]>`
    select split_part(callback_id, ':', 2) || ':' || split_part(callback_id, ':', 3) || ' ' || (payload ->> 'kind') as text
    from events where source = 'ringback' order by id`
  return rows.map(({ text }) => text)
}

/** Looks once, and resolves to the alerts that are open then, each as `kind:subject`. */
export async function openAlerts(database: Database, definition: Partial<ConfigDefinition> = {}): Promise<string[]> {
  await look(database, definition)
  const rows = await database.sql<{ key: string }[]>`select key from alerts where state = 'open' order by key`
  return rows.map(({ key }) => key)
}

/** Stores callbacks that came at those times. */
export async function storeEventsAt(
  database: Database,
  ...events: (Partial<QueuedCallback> & { at: Date })[]
): Promise<void> {
  const store = storeOneByOne(database)
  const callbacks = events.map(({ at, ...fields }) =>
    queued(randomUUIDv7(), { id: idAt(at.toISOString()), source: 'vobiz', occurredAt: at.toISOString(), ...fields }),
  )
  await store(groupOf(callbacks))
}
