import { decode, parseHosts, parseUserInfo } from '../server-url.ts'
import type { ServerNode } from '../server-url.ts'

// The forms of REDIS_URL.

interface Credentials {
  username?: string
  password?: string
  isTls: boolean
}

/** Where Redis is, as REDIS_URL says it. */
export type RedisAddress =
  | ({ kind: 'single'; database: number } & ServerNode & Credentials)
  | ({
      kind: 'sentinel'
      sentinels: ServerNode[]
      name: string
      database: number
      sentinelPassword?: string
    } & Credentials)
  | ({ kind: 'cluster'; nodes: ServerNode[] } & Credentials)

const FORMS = [
  'redis://[user:password@]host:port[/database]',
  'redis+sentinel://[user:password@]host:port,host:port/master-name[/database]',
  'redis+cluster://[user:password@]host:port,host:port',
]

/**
 * The one parameter of each form. `family` is ignored: older clients used it to look up only IPv4 or only IPv6 addresses.
 */
const PARAMETERS: Record<string, string> = { single: 'family', sentinel: 'sentinelPassword' }

/**
 * Reads REDIS_URL. Throws an error whose message says, as a predicate ("has ..."), what is wrong and how to mend it. It
 * never shows the URL, which may hold a password.
 */
export function parseRedisUrl(url: string): RedisAddress {
  const match = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^/?#]*)@)?([^@/?#]*)([^@?#]*)(?:\?([^@#]*))?$/.exec(url)
  if (match === null) {
    throw new Error(
      `must have one of the forms ${FORMS.join(', ')} (rediss for TLS; in a password /, ?, # and % are percent-encoded)`,
    )
  }
  const [, tls, kind = 'single', userInfo, hosts, path = '', query] = match
  const credentials = { ...parseUserInfo(userInfo), isTls: tls === 's' }
  const parameters = new URLSearchParams(query)
  for (const name of parameters.keys()) {
    if (name !== PARAMETERS[kind]) throw new Error(`knows no parameter "${name}"`)
  }
  if (kind === 'cluster') {
    if (path !== '' && path !== '/') throw new Error('names a database, and a Redis Cluster has only one: leave it out')
    return { kind, nodes: parseHosts(hosts!, 6379), ...credentials }
  }
  if (kind === 'single') {
    const [node, ...others] = parseHosts(hosts!, 6379)
    if (others.length > 0) throw new Error('names several hosts, as only redis+sentinel:// and redis+cluster:// may')
    return { kind, ...node!, database: parseDatabase(path.slice(1) || '0'), ...credentials }
  }
  const [, name = '', database = '0', ...rest] = path.split('/')
  if (name === '') throw new Error(`lacks the name that the sentinels have for the master: ${FORMS[1]}`)
  const sentinelPassword = parameters.get('sentinelPassword')
  return {
    kind: 'sentinel',
    sentinels: parseHosts(hosts!, 26379),
    name: decode(name),
    database: parseDatabase([database, ...rest].join('/')),
    ...(sentinelPassword !== null && { sentinelPassword }),
    ...credentials,
  }
}

function parseDatabase(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new Error('has a database that is not a number')
  return Number(text)
}
