import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { isGenuine } from './is-genuine.ts'
import type { Callback } from './is-genuine.ts'

/** The HTTP side of all designs but Express's: reads, verifies, calls `store`, answers. */
export function listenForCallbacks({
  ready,
  store,
}: {
  ready: () => Promise<unknown>
  /** Stores callbacks. The answer waits for it. */
  store: (callbacks: Callback[]) => Promise<void>
}): void {
  const app = new Hono()
  app.get('/readyz', async (c) => {
    await ready()
    return c.text('ready')
  })
  app.post('/callbacks/voximplant', async (c) => {
    // In Hono, it costs least to parse a text.
    const { callbacks } = JSON.parse(await c.req.text()) as { callbacks: Callback[] }
    if (!callbacks.every(isGenuine)) return c.json({ error: 'not accepted' }, 401)
    await store(callbacks)
    return c.json({ status: 'received' })
  })
  serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT) })
}
