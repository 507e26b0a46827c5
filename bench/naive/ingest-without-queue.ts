import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import postgres from 'postgres'
import { isGenuine } from './is-genuine.ts'
import type { Callback } from './is-genuine.ts'

// No queue at all: each callback is inserted before its answer.

const sql = postgres(process.env.DATABASE_URL!, { max: 10 })
const app = new Hono()

app.get('/readyz', async (c) => {
  await sql`select 1`
  return c.text('ready')
})

app.post('/callbacks/voximplant', async (c) => {
  const { callbacks } = await c.req.json<{ callbacks: Callback[] }>()
  if (!callbacks.every(isGenuine)) return c.json({ error: 'not accepted' }, 401)
  for (const callback of callbacks) {
    await sql`
      insert into events (callback_id, type, payload)
      values (${String(callback.callback_id)}, ${callback.type}, ${sql.json(callback)})
      on conflict do nothing`
  }
  return c.json({ status: 'received' })
})

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT) })
