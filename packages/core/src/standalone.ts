import type { Environment } from './config.ts'
import { demoCredentials } from './providers/voximplant.ts'

// Defaults of `npm start`, for it and for the commands that are run beside it.

/** Adds Voximplant's public demo credentials if none of its variables is set, so that a first try needs no account. */
export function withDemoCredentials(environment: Environment): Environment {
  if (Object.keys(environment).some((name) => name.startsWith('VOXIMPLANT_') && environment[name]?.trim()))
    return environment
  return {
    ...environment,
    VOXIMPLANT_ACCOUNT_ID: demoCredentials.accountId,
    VOXIMPLANT_API_KEY: demoCredentials.apiKey,
    VOXIMPLANT_SALT: demoCredentials.salt,
  }
}

/** Where the embedded Postgres answers. Its password is no secret: only this machine reaches it. */
export function embeddedDatabaseUrl(port: number, database = 'ringback'): string {
  return `postgres://ringback:ringback@127.0.0.1:${port}/${database}`
}
