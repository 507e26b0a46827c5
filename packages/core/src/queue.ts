import type { Consumer, ConsumerOptions, Work } from './queue/consumer.ts'
import { createPostgresConsumer } from './queue/postgres-consumer.ts'
import { createPostgresProducer } from './queue/postgres-producer.ts'
import type { Producer, ProducerOptions } from './queue/producer.ts'
import { createRedisConsumer } from './queue/redis-consumer.ts'
import { createRedisProducer } from './queue/redis-producer.ts'
import type { QueueName, QueueServer } from './queue/server.ts'

// Ringback uses BullMQ, on Redis or on Postgres, in two ways: a producer adds a job durably or fails within a time limit; a
// consumer processes jobs, and waits for the server as long as it takes.

export type { QueueJob } from './queue/consumer.ts'
export { consumerConnections } from './queue/postgres-consumer.ts'
export { producerConnections } from './queue/postgres-producer.ts'
export type { Producer, QueueState } from './queue/producer.ts'
export { PostponedError } from './queue/rounds.ts'
export { migrateQueue, queueServer } from './queue/server.ts'
export type { QueueName, QueueServer } from './queue/server.ts'
export { unsafeQueueSettings } from './queue/unsafe-settings.ts'

/** Makes a producer, which connects at its first use and again after a failure. The server may be down when it is made. */
export function createProducer<Data extends object>(
  server: QueueServer,
  name: QueueName,
  options: ProducerOptions,
): Producer<Data> {
  return server.kind === 'redis'
    ? createRedisProducer(server, name, options)
    : createPostgresProducer(server, name, options)
}

/**
 * Processes jobs, `concurrency` at a time, and waits for the server whenever it is down. On Postgres, resolves only once the
 * server has answered, and rejects only if `stopping` fires before that. A job is processed at least once: again if the
 * process dies, and perhaps again if its event loop is blocked for 3 s.
 */
export function createConsumer(
  server: QueueServer,
  name: QueueName,
  options: ConsumerOptions,
  work: Work,
): Promise<Consumer> {
  return server.kind === 'redis'
    ? createRedisConsumer(server, name, options, work)
    : createPostgresConsumer(server, name, options, work)
}
