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

/**
 * The shards' numbers in the order of their hash slots. A node of a Redis Cluster has a range of slots, so that shards on the
 * same node are neighbours in this order.
 */
export function shardsBySlot(prefix: string, count: number): number[] {
  const slot = (shard: number) => slotOf(/\{(.+)\}$/.exec(shardPrefix(prefix, shard))?.[1] ?? '')
  return Array.from({ length: count }, (_, shard) => shard).toSorted((a, b) => slot(a) - slot(b))
}

/** The slot of keys with this hash tag in a Redis Cluster: its CRC-16 (XMODEM). */
export function slotOf(tag: string): number {
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x8000 ? 0x11021 : 0)
  }
  return crc % 16_384
}
