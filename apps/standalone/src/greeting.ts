import { parseDatabaseUrl } from '@ringback/core/database-url'
import type { Config } from '@ringback/core/config'
import type { Environment } from '@ringback/core/environment'
import { signCallbackId } from '@ringback/core/providers/voximplant'

/** Tells whoever has just started Ringback what to do next: where callbacks go, one to try, and where they end up. */
export function greeting({
  config,
  port,
  databaseUrl,
  environment,
  hasEnvFile,
}: {
  config: Config
  port: number
  databaseUrl: string
  environment: Environment
  /** Whether there is a `.env`, which is for compose. */
  hasEnvFile: boolean
}): string {
  const base = `http://127.0.0.1:${port}`
  const urls = [...config.sources].map(
    ([name, source]) => `  ${base}/callbacks/${name}${source.urlTokens.length > 0 ? '/<token>' : ''}`,
  )
  const isDemo = [...config.sources.values()].some(({ usesDemoCredentials }) => usesDemoCredentials)
  const curl = signedCurl(config, base, environment)
  return [
    '',
    'Ringback receives callbacks at',
    ...urls,
    ...(isDemo
      ? [
          'with demo credentials, which are public: only this machine can reach it. docs/configuration.md tells how to set your own.',
          ...(hasEnvFile
            ? ['npm start does not read .env. To use what it sets:', '  set -a; . ./.env; set +a; npm start']
            : []),
        ]
      : []),
    ...(curl === undefined ? [] : ['', 'Send one; a second time, it is a duplicate:', curl]),
    '',
    'See what was stored:',
    `  psql ${withoutPassword(databaseUrl)} -c 'select received_at, source, type, callback_id, duplicates from events'`,
    '',
  ].join('\n')
}

/** The id is not a number, as all of Voximplant's are, so it never takes the name of a callback that is still to come. */
function signedCurl(config: Config, base: string, environment: Environment): string | undefined {
  const { VOXIMPLANT_ACCOUNT_ID: accountId, VOXIMPLANT_API_KEY: apiKey, VOXIMPLANT_SALT: salt } = environment
  const source = config.sources.get('voximplant')
  if (!accountId || !apiKey || !salt || source === undefined || source.urlTokens.length > 0) return undefined
  const callbackId = `try-${Date.now()}`
  const callback = {
    callback_id: callbackId,
    type: 'min_balance',
    account_id: accountId,
    hash: signCallbackId({ accountId, apiKey, salt }, callbackId),
    balance: 4.99,
    currency: 'USD',
    min_balance: { is_min_credit: false, is_repeated: false },
  }
  return `  curl ${base}/callbacks/voximplant -H 'Content-Type: application/json' -d '${JSON.stringify({ callbacks: [callback] })}'`
}

/** The embedded database's password is no secret; anybody else's is. */
function withoutPassword(databaseUrl: string): string {
  if (parseDatabaseUrl(databaseUrl).password === 'ringback') return databaseUrl
  return databaseUrl.replace(/^(\w+:\/\/[^:/?#]*):[^/?#]*@/, '$1@')
}
