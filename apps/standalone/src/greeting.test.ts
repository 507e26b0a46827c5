import { resolveConfig } from '@ringback/core/config'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { expect, test } from 'vitest'
import { greeting } from './greeting.ts'

test.each([
  ['postgres://ringback:ringback@127.0.0.1:5433/ringback', 'postgres://ringback:ringback@127.0.0.1:5433/ringback'],
  ['postgres://u:hu:sh@db/x?sslmode=require', 'postgres://u@db/x?sslmode=require'],
  ['postgres://u:hush@a:5432,b:5432/x', 'postgres://u@a:5432,b:5432/x'],
  ['postgres://u:ringback@hush@db/x', 'postgres://u@db/x'],
  ['postgres://u@server:hush@db/x', 'postgres://u@server@db/x'],
  ['postgres://u@a:5432,b:5432/x', 'postgres://u@a:5432,b:5432/x'],
  ['postgres://:hush@[::1]/x', 'postgres://@[::1]/x'],
  ['postgres://u:hush@/x?host=/run/postgresql', 'postgres://u@/x?host=/run/postgresql'],
])('the greeting shows %s without a password, unless that is the public one', (databaseUrl, shown) => {
  const config = resolveConfig({ sources: {} }, {})
  expect(greeting({ config, port: 3000, databaseUrl, environment: {}, hasEnvFile: true })).toContain(`psql ${shown} -c`)
})

test.each([
  ['named, and how to use it, while demo credentials are in use', demoCredentials.apiKey, true, true],
  ['not named with credentials of one’s own', 'own', true, false],
  ['not named where there is none', demoCredentials.apiKey, false, false],
])('in the greeting, .env is %s', (_what, apiKey, hasEnvFile, isTold) => {
  const { accountId, salt } = demoCredentials
  const sources = { voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: salt }] }) }
  const text = greeting({
    config: resolveConfig({ sources }, {}),
    port: 3000,
    databaseUrl: 'postgres://u@db/x',
    environment: {},
    hasEnvFile,
  })
  expect(text.includes('  set -a; . ./.env; set +a; npm start')).toBe(isTold)
})
