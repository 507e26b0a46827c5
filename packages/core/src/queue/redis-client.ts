import { Cluster, Redis } from 'ioredis'
import type { RedisOptions } from 'ioredis'
import { parseRedisUrl } from './redis-url.ts'
import type { RedisAddress } from './redis-url.ts'

// Clients for each form of REDIS_URL. A producer's client fails fast, because somebody waits for the answer; a consumer's
// waits as long as the server is down. Both notice by themselves that a socket is dead.

export type RedisClient = Redis | Cluster
type Options = Omit<RedisOptions, 'replyMapping'>

/** How long a consumer's blocking read lasts. A socket that brings nothing for longer than that counts as dead. */
export const BLOCK_SECONDS = 5
const CONSUMER_SOCKET_TIMEOUT_MS = 8000
const CONNECT_TIMEOUT_MS = 5000
/** How often a Redis Cluster is asked which node has which slots. */
const SLOTS_REFRESH_INTERVAL_MS = 5000

const shared = {
  keepAlive: 10_000,
  // ioredis backs off to several seconds by default; a callback that waits has less.
  retryStrategy: (times: number) => Math.min(times * 50, 1000),
  // The former master is a replica now, or its name leads to another server: connect again to find the new one.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
} satisfies Options

/**
 * Connects only on `connect()`. A command fails at once if there is no connection or it breaks, and if the server sends
 * nothing for twice `timeoutMs`. No command is kept for later. Throws if the URL cannot be read.
 */
export function createFastClient(url: string, timeoutMs: number): RedisClient {
  const options = {
    ...shared,
    lazyConnect: true,
    // Fail at once without a connection, instead of collecting commands.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // With 1, commands under way when a connection breaks would never settle if the next connection succeeds.
    maxRetriesPerRequest: 0,
    connectTimeout: timeoutMs,
    // A frozen server neither answers nor closes: this gives up on the socket, with all that waits on it. Callers have time
    // limits of their own. A limit for each command (`commandTimeout`) would delay every callback that comes alone.
    socketTimeout: 2 * timeoutMs,
  } satisfies Options
  return createClient(parseRedisUrl(url), options, { retries: 5, timeoutMs })
}

/** Connects at once, and retries without end. Commands wait for the connection, and are sent again if it broke. */
export function createPatientClient(url: string): RedisClient {
  const options = {
    ...shared,
    maxRetriesPerRequest: null,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: CONSUMER_SOCKET_TIMEOUT_MS,
  } satisfies Options
  // 600 retries at 100 ms last longer than a failover.
  return createClient(parseRedisUrl(url), options, { retries: 600, timeoutMs: CONNECT_TIMEOUT_MS })
}

/**
 * A client that connects anew if the server refuses it its database (SELECT): ioredis would go on in database 0, which may
 * be another installation's. BullMQ duplicates the client to wait for jobs, so a duplicate is one of these too.
 */
class SafeRedis extends Redis {
  constructor(options: Options) {
    super(options)
    this.on('error', (error: Error & { command?: { name: string } }) => {
      hideArguments(error)
      if (error.command?.name === 'select') this.disconnect(true)
    })
  }

  override duplicate(override?: Options): ReturnType<Redis['duplicate']> {
    return new SafeRedis({ ...this.options, ...override })
  }
}

/**
 * Takes the arguments out of what a server says of a command that it does not know, for all that come to hear of the error. An
 * old sentinel, or a Redis in which AUTH is renamed, so repeats the password.
 */
function hideArguments(error: Error): void {
  error.message = error.message.replace(/, with args beginning with:.*/s, '')
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
  // Nodes get no retryStrategy: the cluster's client connects to them anew, and first asks where the slots are now.
  const { retryStrategy, lazyConnect = false, enableOfflineQueue = true, ...redisOptions } = secured
  const cluster = new Cluster(address.nodes, {
    redisOptions,
    lazyConnect,
    enableOfflineQueue,
    // After a check that failed, as it does while a part of the cluster is down, `connect()` would never settle.
    enableReadyCheck: false,
    clusterRetryStrategy: retryStrategy,
    maxRedirections: retries,
    retryDelayOnFailover: enableOfflineQueue ? 100 : 50,
    retryDelayOnClusterDown: enableOfflineQueue ? 100 : 50,
    slotsRefreshTimeout: timeoutMs,
    slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
    // Replicas lag, so reads go to where the writes went.
    scaleReads: 'master',
    // Certificates name hosts, not addresses.
    ...(isTls && { dnsLookup: (host: string, done: (error: null, address: string) => void) => done(null, host) }),
  })
  return cluster.on('node error', hideArguments)
}

/** The connection to the server that holds `slot`, or to the only server. Throws if no master holds the slot. */
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

/** The fields of an answer to INFO, by name. */
export function parseInfo(text: string): Map<string, string> {
  return new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const colon = line.indexOf(':')
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    }),
  )
}

/** Whether the server is of this version or a later one. */
export function isAtLeast(info: Map<string, string>, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = (info.get('redis_version') ?? '').split('.').map(Number)
  return ownMajor > major || (ownMajor === major && ownMinor >= minor)
}
