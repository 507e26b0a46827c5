import type { QueueName, QueueServer } from './server.ts'

// The parts of the store queue in Redis. The queue of deliveries has one.

/** The most shards that the store queue may have. A worker looks for work in every possible one. */
export const MAX_STORE_SHARDS = 64

/**
 * The prefix of a shard's keys. Each shard has a hash tag of its own, so that the nodes of a Redis Cluster share the shards.
 * Shard 0 is the queue as it is without shards. By these names shards 0 to 2 land on different nodes of a cluster of three,
 * and so do shards 3 to 5.
 */
export function shardPrefix(prefix: string, shard: number): string {
  return shard === 0 ? prefix : prefix.replace(/\}?$/, (end) => `_${shard}${end}`)
}

/** The number of shards of this queue on this server. */
export function shardCount(server: QueueServer & { kind: 'redis' }, name: QueueName): number {
  return name === 'store' ? (server.storeShards ?? 1) : 1
}
