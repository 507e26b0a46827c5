import { createPostgresProducer } from './queue/postgres-producer.ts'
import type { Producer, ProducerOptions } from './queue/producer.ts'
import { createRedisProducer } from './queue/redis-producer.ts'
import type { QueueName, QueueServer } from './queue/server.ts'

// BullMQ on Redis or on Postgres, behind the two things that Ringback does with it: add a job durably, or fail within a
// time limit; and process jobs, waiting for the server as long as it takes.

export { consumerConnections, createConsumer } from './queue/consumer.ts'
export type { QueueJob } from './queue/consumer.ts'
export { PostponedError } from './queue/postponed.ts'
export type { Producer, QueueState } from './queue/producer.ts'
export { migrateQueue, queueServer } from './queue/server.ts'
export type { QueueName, QueueServer } from './queue/server.ts'
export { unsafeQueueSettings } from './queue/unsafe-settings.ts'

/** A producer that connects at its first use, and again after a failure: it may be made while the server is away. */
export function createProducer<Data extends object>(
  server: QueueServer,
  name: QueueName,
  options: ProducerOptions,
): Producer<Data> {
  return server.kind === 'redis'
    ? createRedisProducer(server, name, options)
    : createPostgresProducer(server, name, options)
}
