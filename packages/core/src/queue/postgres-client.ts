import { Client } from 'pg'
import type { ClientConfig } from 'pg'
import { parseDatabaseUrl } from '../database-url.ts'

/**
 * A pg client whose broken connection does not end the process. When a connection breaks, pg rejects the running query and
 * also emits `error`, which Node throws if nobody listens. A pool listens only while a client is idle, and BullMQ does not
 * listen to the one that it takes for its first query.
 */
export class SafeClient extends Client {
  constructor(config?: string | ClientConfig) {
    super(config)
    this.on('error', () => {})
  }
}

/** The server, TLS and role of a DATABASE_URL, and its sessions, as options of pg, with the first host only. Throws if it cannot be read. */
export function serverConfig(url: string) {
  const { hosts, username, password, database, tls } = parseDatabaseUrl(url)
  return {
    ...hosts[0]!,
    ssl: tls ?? false,
    ...(username !== undefined && { user: username }),
    ...(password !== undefined && { password }),
    ...(database !== undefined && { database }),
    // Whatever the server or the role sets: BullMQ expects to see what others have committed, and its connections idle. How
    // long a transaction may take is up to the limits of its statements.
    options: '-c default_transaction_isolation=read\\ committed -c idle_session_timeout=0 -c transaction_timeout=0',
  }
}
