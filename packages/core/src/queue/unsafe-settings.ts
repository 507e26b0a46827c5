import type { Redis } from 'ioredis'
import { withTimeout } from '../with-timeout.ts'
import { memoryUsage } from './fullness.ts'
import { createFastClient, isAtLeast, masters, parseInfo } from './redis-client.ts'
import type { QueueServer } from './server.ts'

const TIMEOUT_MS = 1000
const CONNECT_TIMEOUT_MS = 2000
const CROWDED_FROM = 0.7

/**
 * What is unsafe about each Redis server that takes writes, one sentence with its mend for each setting; empty for Postgres.
 * If the settings cannot be read, the one sentence says so.
 */
export async function unsafeQueueSettings(server: QueueServer): Promise<string[]> {
  if (server.kind === 'postgres') return []
  const client = createFastClient(server.url, TIMEOUT_MS)
  client.on('error', () => {}) // connect and the commands below fail with the same error
  try {
    // ioredis asks sentinels that are down without end.
    await withTimeout(client.connect(), CONNECT_TIMEOUT_MS, 'no answer')
    const servers = masters(client)
    const found = await Promise.all(
      servers.map(async (redis) => {
        const name = servers.length > 1 ? `${redis.options.host}:${redis.options.port}: ` : ''
        return (await problemsOf(redis)).map((problem) => name + problem)
      }),
    )
    return found.flat()
  } catch (error) {
    return [unreadable(error as Error)]
  } finally {
    client.disconnect()
  }
}

const unreadable = ({ message }: Error) =>
  `its settings cannot be read (${message}): see to "appendonly yes", "appendfsync always" and "maxmemory-policy noeviction"`

async function problemsOf(redis: Redis): Promise<string[]> {
  const info = parseInfo(await redis.info())
  return [...settingProblems(info, await appendfsyncOf(redis)), ...stateProblems(info)]
}

/** An error instead of the value, where CONFIG is not permitted. All other settings are in INFO. */
function appendfsyncOf(redis: Redis): Promise<string | undefined | Error> {
  return redis.config('GET', 'appendfsync').then(
    ([, value]) => value,
    (error: Error) => error,
  )
}

function* settingProblems(info: Map<string, string>, appendfsync: string | undefined | Error): Generator<string> {
  if (info.get('aof_enabled') === '0')
    yield 'appendonly is off, so a restart of Redis loses what was acknowledged: set "appendonly yes"'
  else if (appendfsync instanceof Error) yield unreadable(appendfsync)
  else if (appendfsync !== 'always')
    yield 'appendfsync is not "always", so a crash loses up to a second of what was acknowledged: set "appendfsync always"'
  if (info.get('maxmemory_policy') !== 'noeviction')
    yield 'maxmemory-policy is not "noeviction", so a full Redis drops what was acknowledged: set "maxmemory-policy noeviction"'
  if (info.get('maxmemory') === '0')
    yield 'maxmemory is not set, so a long queue grows until the system kills Redis: set "maxmemory" to less than half of the memory that it may have, for a rewrite of the log can double what it needs'
}

function* stateProblems(info: Map<string, string>): Generator<string> {
  const usage = memoryUsage(info)
  if (usage >= CROWDED_FROM)
    yield `${Math.round(usage * 100)} % of maxmemory is used, and from 90 % nothing is accepted: raise "maxmemory", or find out why the workers do not keep up`
  if (info.get('role') === 'slave')
    yield 'it is a read-only replica, so nothing can be accepted: let REDIS_URL name the master, or the sentinels (redis+sentinel://)'
  if (info.get('aof_last_write_status') === 'err')
    yield 'its last write to the log failed, so it accepts nothing: give its disk room, and see to the log of Redis'
  if (!isAtLeast(info, 6, 2))
    yield `it is version ${info.get('redis_version') ?? ''}, older than 6.2: use Redis 7 or newer`
}
