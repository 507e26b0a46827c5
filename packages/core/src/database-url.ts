import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { decode, parseHosts, parseUserInfo } from './server-url.ts'
import type { ServerNode } from './server-url.ts'

// DATABASE_URL, read in one place for both drivers. Each of them would read a URL differently, above all its sslmode.

/** Where Postgres is, as DATABASE_URL says. */
export interface DatabaseAddress {
  /** To be tried in turn. A host that begins with / is the folder of a Unix socket, and stands alone. */
  hosts: ServerNode[]
  username?: string
  password?: string
  database?: string
  targetSessionAttrs?: TargetSessionAttrs
  /** The schemas that are searched for tables, if not those of the role. */
  searchPath?: string
  /** Undefined for no TLS. */
  tls?: TlsOptions
}

type TargetSessionAttrs = (typeof TARGET_SESSION_ATTRS)[number]
export type TlsOptions = Pick<ConnectionOptions, 'ca' | 'rejectUnauthorized' | 'checkServerIdentity'>

const FORM = 'postgres://user:password@host:port/database'
const DEFAULT_PORT = 5432
const PARAMETERS = ['host', 'search_path', 'sslmode', 'sslrootcert', 'target_session_attrs']
/** Hosting providers write these into their URLs. No driver of Node.js heeds them, so they are ignored here too. */
const IGNORED_PARAMETERS = ['application_name', 'channel_binding', 'connect_timeout']
const TARGET_SESSION_ATTRS = ['read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const

/**
 * Reads DATABASE_URL. Throws an error whose message says, as a predicate ("has ..."), what is wrong and how to mend it. It
 * never shows the URL, which may hold a password.
 */
export function parseDatabaseUrl(url: string): DatabaseAddress {
  const match = /^postgres(?:ql)?:\/\/(?:([^/?#]*)@)?([^@/?#]*)(?:\/([^@/?#]*))?(?:\?([^@#]*))?$/.exec(url)
  if (match === null) {
    throw new Error(`must have the form ${FORM} (in a password /, ?, # and % are percent-encoded)`)
  }
  const [, userInfo, authority = '', database = '', query] = match
  const parameters = new URLSearchParams(query)
  for (const name of parameters.keys()) {
    if (!PARAMETERS.includes(name) && !IGNORED_PARAMETERS.includes(name)) {
      throw new Error(`knows no parameter "${name}"; those that it knows are ${PARAMETERS.join(', ')}`)
    }
  }
  const attrs = parameters.get('target_session_attrs')
  if (attrs !== null && !isOneOf(TARGET_SESSION_ATTRS, attrs)) {
    throw new Error(`has target_session_attrs that are none of ${TARGET_SESSION_ATTRS.join(', ')}`)
  }
  const hosts = hostsOf(authority, parameters.get('host'))
  const searchPath = parameters.get('search_path')
  const tls = tlsOf(parameters.get('sslmode') ?? undefined, parameters.get('sslrootcert') ?? undefined)
  return {
    hosts,
    ...parseUserInfo(userInfo),
    ...(database !== '' && { database: decode(database) }),
    ...(attrs !== null && { targetSessionAttrs: attrs }),
    ...(searchPath !== null && { searchPath }),
    // As with libpq, there is no TLS on a Unix socket.
    ...(tls !== undefined && !isSocket(hosts[0]!) && { tls }),
  }
}

/** Whether this is the folder of a Unix socket. */
export function isSocket({ host }: ServerNode): boolean {
  return host.startsWith('/')
}

/** A host may be a folder: `%2Frun%2Fpostgresql` in its usual place, or the parameter `host=/run/postgresql`. */
function hostsOf(authority: string, parameter: string | null): ServerNode[] {
  const [name = '', port = String(DEFAULT_PORT)] = authority.split(/:(?=\d*$)/)
  const folder = parameter ?? (/^%2f/i.test(name) ? decode(name) : undefined)
  if (folder === undefined) return parseHosts(authority, DEFAULT_PORT)
  if (parameter !== null && name !== '') throw new Error('names a host twice: before the database, and by "host"')
  if (!folder.startsWith('/')) throw new Error(`names a host by "host", which is for a folder: ${FORM}`)
  const [{ port: number }] = parseHosts(`localhost:${port}`, DEFAULT_PORT) as [ServerNode]
  return [{ host: folder, port: number }]
}

/** As libpq does, except that without `sslmode` there is no TLS, and without `sslrootcert` Node's authorities count. */
function tlsOf(mode = 'disable', rootFile?: string): TlsOptions | undefined {
  if (mode === 'disable') {
    if (rootFile !== undefined) throw new Error('has sslrootcert without TLS: add sslmode=verify-full')
    return undefined
  }
  const root = rootFile === undefined ? {} : { ca: readRootFile(rootFile) }
  switch (mode) {
    case 'require':
      return rootFile === undefined ? { rejectUnauthorized: false } : { ...root, checkServerIdentity: () => undefined }
    case 'verify-ca':
      if (rootFile === undefined) {
        throw new Error(
          'has sslmode=verify-ca without sslrootcert, so that anybody’s certificate would do: name the file',
        )
      }
      return { ...root, checkServerIdentity: () => undefined }
    case 'verify-full':
      return root
    default:
      throw new Error(
        'has an sslmode that is none of disable, require (TLS, with whoever it is), verify-ca and verify-full',
      )
  }
}

function readRootFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`names a file by sslrootcert that cannot be read (${(error as NodeJS.ErrnoException).code})`, {
      cause: error,
    })
  }
}

function isOneOf<Value extends string>(values: readonly Value[], value: string): value is Value {
  return values.includes(value as Value)
}
