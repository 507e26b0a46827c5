// Parts of REDIS_URL and DATABASE_URL. With several hosts these are no standard URLs, so a URL parser refuses them. Errors
// must not show them, because they may hold a password.

export interface ServerNode {
  host: string
  port: number
}

/** Reads what stands before the @ of a URL: `user:password`, percent-encoded. Throws if that cannot be decoded. */
export function parseUserInfo(userInfo: string | undefined): { username?: string; password?: string } {
  if (userInfo === undefined) return {}
  const [username = '', ...rest] = userInfo.split(':')
  return {
    ...(username !== '' && { username: decode(username) }),
    ...(rest.length > 0 && { password: decode(rest.join(':')) }),
  }
}

/** Reads `host:port,host:port`. Throws if a part has another form. */
export function parseHosts(hosts: string, defaultPort: number): ServerNode[] {
  return hosts.split(',').map((text) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text)
    const port = Number(match?.[3] ?? defaultPort)
    if (match === null || port < 1 || port > 65535) {
      throw new Error('has a host that is not host:port (with commas between, no spaces; IPv6 in brackets)')
    }
    return { host: match[1] ?? match[2]!, port }
  })
}

/** Undoes percent-encoding. Throws for a % that begins none. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('has a % that begins no percent-encoding: write %25 for a % of its own')
  }
}
