import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { isGenuine } from './is-genuine.ts'
import type { Callback } from './is-genuine.ts'

/** The HTTP side that the designs share, all but Express's: read, verify, `store`, answer. */
export function listenForCallbacks({
  ready,
  store,
}: {
  ready: () => Promise<unknown>
  /** The answer waits for it. */
  store: (callbacks: Callback[]) => Promise<void>
}): void {
  const app = new Hono()
  app.get('/readyz', async (c) => {
    await ready()
    return c.text('ready')
  })
  app.post('/callbacks/voximplant', async (c) => {
    // One parse of a text is what costs least in Hono.
    const { callbacks } = JSON.parse(await c.req.text()) as { callbacks: Callback[] }
    if (!callbacks.every(isGenuine)) return c.json({ error: 'not accepted' }, 401)
    await store(callbacks)
    return c.json({ status: 'received' })
  })
  serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT) })
}
