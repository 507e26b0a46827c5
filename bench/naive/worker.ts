import { Worker } from 'bullmq'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import type { Callback } from './is-genuine.ts'

const sql = postgres(process.env.DATABASE_URL!, { max: 10 })

const worker = new Worker<{ callbacks: Callback[] }>(
  'callbacks',
  async ({ data }) => {
    for (const callback of data.callbacks) {
      await sql`
        insert into events (callback_id, type, payload)
        values (${String(callback.callback_id)}, ${callback.type}, ${sql.json(callback)})
        on conflict do nothing`
    }
  },
  { connection: new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null }), concurrency: 50 },
)

worker.on('error', (error) => console.error(error.message))
