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
      /** The prefix of its keys. It ends in a hash tag, which keeps a queue's keys on one node of a Redis Cluster. */
      prefix: string
      /** The number of shards of the store queue; 1 where it is left out. */
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
  /** Groups to store. Never given up: they hold what was acknowledged. */
  store: { maxAttempts: UNLIMITED },
  /** Deliveries to run. One try is enough: Postgres knows which are still open, and the scanner enqueues them again. */
  deliveries: { maxAttempts: 1 },
} as const

export type QueueName = keyof typeof queues

/**
 * The queue is in Redis if that has a URL, else in Postgres beside the events, where it has no shards. Throws if neither has
 * one, or if that of Postgres names several hosts.
 */
export function queueServer(variables: {
  REDIS_URL?: string | undefined
  DATABASE_URL?: string | undefined
  STORE_SHARDS: number
  REDIS_WAIT_REPLICAS: number
}): QueueServer {
  const { REDIS_URL, DATABASE_URL, STORE_SHARDS: storeShards, REDIS_WAIT_REPLICAS: waitReplicas } = variables
  if (REDIS_URL !== undefined)
    return { kind: 'redis', url: REDIS_URL, prefix: DEFAULT_PREFIX, storeShards, waitReplicas }
  if (DATABASE_URL !== undefined) {
    if (parseDatabaseUrl(DATABASE_URL).hosts.length > 1)
      throw new Error('DATABASE_URL must name one host for a queue in Postgres: set REDIS_URL, or leave out the others')
    return { kind: 'postgres', url: DATABASE_URL }
  }
  throw new Error('There is nowhere to put callbacks: set REDIS_URL, or DATABASE_URL to have the queue in Postgres')
}

/** Creates or updates BullMQ's own schema `bullmq`, if the queue is in Postgres. Redis needs nothing. */
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
