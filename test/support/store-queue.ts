import type { QueueServer } from '@ringback/core/queue'
import { Queue, createPostgresBackend, withBackend } from 'bullmq'

/** The store queue as a dashboard of BullMQ opens it. */
export function openStoreQueue(server: QueueServer): Pick<Queue, 'pause' | 'resume' | 'close'> {
  if (server.kind === 'redis') return new Queue('store', { prefix: server.prefix, connection: { url: server.url } })
  const queue = new (withBackend(createPostgresBackend).Queue)('store', {
    connection: { connectionString: server.url },
  })
  // The test's database may end a session that is just being closed.
  return queue.on('error', () => undefined)
}
