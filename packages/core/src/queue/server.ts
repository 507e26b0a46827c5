import { runMigrations } from 'bullmq'
import { parseDatabaseUrl } from '../database-url.ts'
import { SafeClient, serverConfig } from './postgres-client.ts'
import { createAliveTable } from './postgres-loss.ts'

/** Where the queue lives. */
export type QueueServer =
  | {
      kind: 'redis'
      /** In one of the forms of REDIS_URL. */
      url: string
      /** Of the keys; its last part is a hash tag, which keeps a queue's keys on one node of a Redis Cluster. */
      prefix: string
      /** Into how many parts the store queue is spread; 1 where it is left out. */
      storeShards?: number
      /** How many replicas must have a job before it counts as durable; 0 where it is left out. */
      waitReplicas?: number
    }
  | { kind: 'postgres'; url: string }

const DEFAULT_PREFIX = '{ringback}'

/** Postgres's largest integer: BullMQ counts attempts and stalls in one, and refuses more there. */
export const UNLIMITED = 2_147_483_647

/** `maxAttempts`: how often BullMQ itself runs a job that throws. */
export const queues = {
  /** Groups to store. Never given up: what was acknowledged is in there. */
  store: { maxAttempts: UNLIMITED },
  /** Deliveries to run. One try, for Postgres knows what is still to do, and the scanner enqueues it again. */
  deliveries: { maxAttempts: 1 },
} as const

export type QueueName = keyof typeof queues

/** Redis where its URL is given, else Postgres beside the events, as one queue. Throws if neither is, or may be. */
export function queueServer(from: {
  redisUrl: string | undefined
  databaseUrl: string | undefined
  storeShards?: number
  waitReplicas?: number
}): QueueServer {
  const { redisUrl, databaseUrl, storeShards = 1, waitReplicas = 0 } = from
  if (redisUrl !== undefined) return { kind: 'redis', url: redisUrl, prefix: DEFAULT_PREFIX, storeShards, waitReplicas }
  if (databaseUrl !== undefined) {
    if (parseDatabaseUrl(databaseUrl).hosts.length > 1)
      throw new Error('DATABASE_URL must name one host for a queue in Postgres: set REDIS_URL, or leave out the others')
    return { kind: 'postgres', url: databaseUrl }
  }
  throw new Error('There is nowhere to put callbacks: set REDIS_URL, or DATABASE_URL to have the queue in Postgres')
}

/** Makes or updates what the queue needs on its server: BullMQ's own schema `bullmq`, where it lives in Postgres. */
export async function migrateQueue(server: QueueServer): Promise<void> {
  if (server.kind === 'redis') return
  const client = new SafeClient(serverConfig(server.url))
  await client.connect()
  try {
    await runMigrations(client)
    await createAliveTable(client)
  } finally {
    await client.end()
  }
}

/**
 * The prefix of a shard's keys, each with a hash tag of its own, so that the nodes of a Redis Cluster share them. Shard 0
 * is the queue as it is without shards. By these names shards 0 to 2, and 3 to 5, land on three different nodes of three.
 */
export function shardPrefix(prefix: string, shard: number): string {
  return shard === 0 ? prefix : prefix.replace(/\}?$/, (end) => `_${shard}${end}`)
}

/** Into how many parts this queue is spread on this server. */
export function shardCount(server: QueueServer & { kind: 'redis' }, name: QueueName): number {
  return name === 'store' ? (server.storeShards ?? 1) : 1
}
