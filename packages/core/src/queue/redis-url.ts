// The forms of REDIS_URL. One that names several hosts is no URL as the standard has it, and what is wrong with a URL must
// be told without it, so all of them are read here.

interface Node {
  host: string
  port: number
}

interface Credentials {
  username?: string
  password?: string
  isTls: boolean
}

/** Into how many parts the store queue may be spread; a worker looks through all of them for work. */
export const MAX_STORE_SHARDS = 64

/** Where Redis is, as REDIS_URL says it. */
export type RedisAddress =
  | ({ kind: 'single'; database: number } & Node & Credentials)
  | ({ kind: 'sentinel'; sentinels: Node[]; name: string; database: number; sentinelPassword?: string } & Credentials)
  | ({ kind: 'cluster'; nodes: Node[] } & Credentials)

const FORMS = [
  'redis://[user:password@]host:port[/database]',
  'redis+sentinel://[user:password@]host:port,host:port/master-name[/database]',
  'redis+cluster://[user:password@]host:port,host:port',
]

/** Reads REDIS_URL. Throws what is wrong with it and how to mend that, without the URL, for it may hold a password. */
export function parseRedisUrl(url: string): RedisAddress {
  const match = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)([^@?#]*)(?:\?([^@#]*))?$/.exec(url)
  if (match === null) {
    throw new Error(
      `must have one of the forms ${FORMS.join(', ')} (rediss for TLS; in a password @, /, ?, # and % are percent-encoded)`,
    )
  }
  const [, tls, kind = 'single', userInfo, hosts, path = '', query] = match
  const credentials = { ...parseUserInfo(userInfo), isTls: tls === 's' }
  const parameters = new URLSearchParams(query)
  for (const name of parameters.keys()) {
    if (kind !== 'sentinel' || name !== 'sentinelPassword') throw new Error(`knows no parameter "${name}"`)
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

/** What is wrong with a REDIS_URL, as {@link parseRedisUrl} says it; undefined where nothing is. */
export function redisUrlProblem(url: string): string | undefined {
  try {
    parseRedisUrl(url)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function parseUserInfo(userInfo: string | undefined): Pick<Credentials, 'username' | 'password'> {
  if (userInfo === undefined) return {}
  const [username = '', ...rest] = userInfo.split(':')
  return {
    ...(username !== '' && { username: decode(username) }),
    ...(rest.length > 0 && { password: decode(rest.join(':')) }),
  }
}

function parseHosts(hosts: string, defaultPort: number): Node[] {
  return hosts.split(',').map((text) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text)
    const port = Number(match?.[3] ?? defaultPort)
    if (match === null || port < 1 || port > 65535) {
      throw new Error('has a host that is not host:port (with commas between, no spaces; IPv6 in brackets)')
    }
    return { host: match[1] ?? match[2]!, port }
  })
}

function parseDatabase(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new Error('has a database that is not a number')
  return Number(text)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('has a % that begins no percent-encoding: write %25 for a % of its own')
  }
}
