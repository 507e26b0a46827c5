import { Cluster, Redis } from 'ioredis'
import type { RedisOptions } from 'ioredis'
import { parseRedisUrl } from './redis-url.ts'
import type { RedisAddress } from './redis-url.ts'

// One client for each form of REDIS_URL. A producer's fails fast, for somebody waits for the answer; a consumer's waits
// as long as the server is away. Both find out by themselves that a socket is dead.

export type RedisClient = Redis | Cluster
type Options = Omit<RedisOptions, 'replyMapping'>

/** Blocking reads of a consumer last this long; a socket that brings nothing for longer than that is dead. */
export const BLOCK_SECONDS = 5
const CONSUMER_SOCKET_TIMEOUT_MS = 8000
const CONNECT_TIMEOUT_MS = 5000
/** Redis Cluster: how often it is asked who has which slots. */
const SLOTS_REFRESH_INTERVAL_MS = 5000

const shared = {
  keepAlive: 10_000,
  // ioredis backs off to several seconds by default; a callback that waits has less.
  retryStrategy: (times: number) => Math.min(times * 50, 1000),
  // What was the master is a replica now, or its name leads to another server: look again who it is.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
} satisfies Options

/**
 * Not connected until `connect()`. A command fails at once while there is no connection and when it breaks, and when the
 * server has not said a word for twice `timeoutMs`; nothing is kept for later.
 */
export function createFastClient(url: string, timeoutMs: number): RedisClient {
  const options = {
    ...shared,
    lazyConnect: true,
    // Fail at once while the connection is away, instead of collecting commands.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // With 1, what was under way when the connection broke would never settle where the next one succeeds.
    maxRetriesPerRequest: 0,
    connectTimeout: timeoutMs,
    // A frozen server answers nothing and closes nothing: give up on the socket, with all that waits on it. Whoever waits
    // has a limit of his own; one more for each command (`commandTimeout`) would cost each callback that comes alone.
    socketTimeout: 2 * timeoutMs,
  } satisfies Options
  return createClient(parseRedisUrl(url), options, { retries: 5, timeoutMs })
}

/** Connects at once, again and again; commands wait until it is connected, and are sent again if it was cut off. */
export function createPatientClient(url: string): RedisClient {
  const options = {
    ...shared,
    maxRetriesPerRequest: null,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: CONSUMER_SOCKET_TIMEOUT_MS,
  } satisfies Options
  // At 100 ms each: longer than a failover takes.
  return createClient(parseRedisUrl(url), options, { retries: 600, timeoutMs: CONNECT_TIMEOUT_MS })
}

/**
 * A client that leaves a server on which it may not use its database, and connects anew: ioredis would go on in database
 * 0, perhaps that of another installation. BullMQ makes duplicates of it, to wait for jobs.
 */
class SafeRedis extends Redis {
  constructor(options: Options) {
    super(options)
    this.on('error', (error: Error & { command?: { name: string } }) => {
      if (error.command?.name === 'select') this.disconnect(true)
    })
  }

  override duplicate(override?: Options): ReturnType<Redis['duplicate']> {
    return new SafeRedis({ ...this.options, ...override })
  }
}

function createClient(
  address: RedisAddress,
  options: Options,
  { retries, timeoutMs }: { retries: number; timeoutMs: number },
): RedisClient {
  const { username, password, isTls } = address
  const secured = {
    ...options,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(isTls && { tls: {} }),
  }
  if (address.kind === 'single') {
    return new SafeRedis({ ...secured, host: address.host, port: address.port, db: address.database })
  }
  if (address.kind === 'sentinel') {
    return new SafeRedis({
      ...secured,
      sentinels: address.sentinels,
      name: address.name,
      db: address.database,
      sentinelRetryStrategy: shared.retryStrategy,
      sentinelCommandTimeout: timeoutMs,
      ...(address.sentinelPassword !== undefined && { sentinelPassword: address.sentinelPassword }),
      ...(isTls && { enableTLSForSentinelMode: true, sentinelTLS: {} }),
    })
  }
  // A node's connection is made anew by the cluster's client, which asks first where the slots are now.
  const { retryStrategy, lazyConnect = false, enableOfflineQueue = true, ...redisOptions } = secured
  return new Cluster(address.nodes, {
    redisOptions,
    lazyConnect,
    enableOfflineQueue,
    clusterRetryStrategy: retryStrategy,
    maxRedirections: retries,
    retryDelayOnFailover: enableOfflineQueue ? 100 : 50,
    retryDelayOnClusterDown: enableOfflineQueue ? 100 : 50,
    slotsRefreshTimeout: timeoutMs,
    slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
    // Replicas lag: what was just written is read where it was written.
    scaleReads: 'master',
    // Certificates name hosts, not addresses.
    ...(isTls && { dnsLookup: (host: string, done: (error: null, address: string) => void) => done(null, host) }),
  })
}

/** The connection to the server that holds `slot`; where there is just one server, to that. */
export function connectionTo(client: RedisClient, slot: number): Redis {
  if (client instanceof Redis) return client
  const [key] = client.slots[slot] ?? []
  const node = client.nodes('master').find(({ options }) => `${options.host}:${options.port}` === key)
  if (node === undefined) throw new Error('no master of the Redis Cluster holds this part of the queue')
  return node
}

/** All servers that take writes. Empty until a cluster's client is connected. */
export function masters(client: RedisClient): Redis[] {
  return client instanceof Redis ? [client] : client.nodes('master')
}

/** The fields of what INFO answers. */
export function parseInfo(text: string): Map<string, string> {
  return new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const colon = line.indexOf(':')
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    }),
  )
}
