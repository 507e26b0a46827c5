import postgres from 'postgres'
import type { Callback } from './is-genuine.ts'

export const sql = postgres(process.env.DATABASE_URL!, { max: 10 })

/** Stores callbacks with an INSERT for each. */
export async function storeOneByOne(callbacks: readonly Callback[]): Promise<void> {
  for (const callback of callbacks) {
    await sql`
      insert into events (callback_id, type, payload)
      values (${String(callback.callback_id)}, ${callback.type}, ${sql.json(callback)})
      on conflict do nothing`
  }
}

/** Stores callbacks with one INSERT for all. */
export async function storeTogether(callbacks: readonly Callback[]): Promise<void> {
  await sql`
    insert into events (callback_id, type, payload)
    select payload ->> 'callback_id', payload ->> 'type', payload
    from jsonb_array_elements(${sql.json([...callbacks])}) as payload
    on conflict do nothing`
}
