import { Client } from 'pg'
import type { ClientConfig } from 'pg'
import { parseDatabaseUrl } from '../database-url.ts'

/**
 * A client of pg whose end ends no process. Where a connection breaks, pg rejects the query in hand and emits `error`
 * besides, which Node throws if nobody listens; a pool listens only while a client is idle, and BullMQ, which takes one
 * out for its first query, does not.
 */
export class SafeClient extends Client {
  constructor(config?: string | ClientConfig) {
    super(config)
    this.on('error', () => {})
  }
}

/** Which server pg connects to, and as whom, by a DATABASE_URL. */
export function serverConfig(url: string) {
  const { hosts, username, password, database, tls } = parseDatabaseUrl(url)
  return {
    ...hosts[0]!,
    ssl: tls ?? false,
    ...(username !== undefined && { user: username }),
    ...(password !== undefined && { password }),
    ...(database !== undefined && { database }),
  }
}
