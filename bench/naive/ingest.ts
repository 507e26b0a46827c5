import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { listenForCallbacks } from './listen.ts'

// The design that most people would write first: a job for every request.

const queue = new Queue('callbacks', { connection: new Redis(process.env.REDIS_URL!, { maxRetriesPerRequest: null }) })

listenForCallbacks({
  ready: () => queue.waitUntilReady(),
  store: async (callbacks) => void (await queue.add('callbacks', { callbacks }, { removeOnComplete: true })),
})
