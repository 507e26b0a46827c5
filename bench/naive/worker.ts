import { Worker } from 'bullmq'
import { Redis } from 'ioredis'
import type { Callback } from './is-genuine.ts'
import { storeOneByOne } from './store-one-by-one.ts'

const worker = new Worker<{ callbacks: Callback[] }>('callbacks', ({ data }) => storeOneByOne(data.callbacks), {
  connection: new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null }),
  concurrency: 50,
})

worker.on('error', (error) => console.error(error.message))
