import { serve } from '@hono/node-server'
import { Queue } from 'bullmq'
import { Hono } from 'hono'
import { Redis } from 'ioredis'
import { isGenuine } from './is-genuine.ts'
import type { Callback } from './is-genuine.ts'

// The design that most people would write first: a job for every request.

const queue = new Queue('callbacks', { connection: new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null }) })
const app = new Hono()

app.get('/readyz', async (c) => {
  await queue.waitUntilReady()
  return c.text('ready')
})

app.post('/callbacks/voximplant', async (c) => {
  const { callbacks } = await c.req.json<{ callbacks: Callback[] }>()
  if (!callbacks.every(isGenuine)) return c.json({ error: 'not accepted' }, 401)
  await queue.add('callbacks', { callbacks }, { removeOnComplete: true })
  return c.json({ status: 'received' })
})

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT) })
