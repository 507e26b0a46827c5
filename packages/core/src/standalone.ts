import { loadConfig } from './config.ts'
import type { Config } from './config.ts'
import type { Environment } from './environment.ts'
import { demoCredentials } from './providers/voximplant.ts'

// Defaults of `npm start`, for it and for the commands that are run beside it.

/**
 * Loads the configuration at `path`. If none of its sources is on, it is loaded with Voximplant's public demo credentials, so
 * that a first try needs no account. The resulting `environment` is the one it was loaded with.
 */
export async function loadStandaloneConfig(
  path: string,
  environment: Environment,
): Promise<{ config: Config; environment: Environment }> {
  const config = await loadConfig(path, environment)
  if (config.sources.size > 0) return { config, environment }
  const withDemo = {
    ...environment,
    VOXIMPLANT_ACCOUNT_ID: demoCredentials.accountId,
    VOXIMPLANT_API_KEY: demoCredentials.apiKey,
    VOXIMPLANT_SALT: demoCredentials.salt,
  }
  return { config: await loadConfig(path, withDemo), environment: withDemo }
}

/** Where the embedded Postgres answers. Its password is public: it is only for a machine without other users. */
export function embeddedDatabaseUrl(port: number, database = 'ringback'): string {
  return `postgres://ringback:ringback@127.0.0.1:${port}/${database}`
}
