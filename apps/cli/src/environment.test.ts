import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { checkConfig, readConfig, readDrainEnvironment, readEnvironment } from './environment.ts'

const folder = mkdtempSync(join(tmpdir(), 'ringback-cli-'))
afterAll(() => rmSync(folder, { recursive: true }))

const RINGBACK_CONFIG = join(import.meta.dirname, '../../../ringback.config.ts')

test('beside `npm start` commands ask its database, and look at its spool', () => {
  expect(readEnvironment({})).toMatchObject({
    DATABASE_URL: 'postgres://ringback:ringback@127.0.0.1:5433/ringback',
    isDatabaseNamed: false,
    SPOOL_DIR: '.ringback/spool',
  })
  expect(readEnvironment({ DATABASE_URL: 'postgres://db/x' })).toMatchObject({ isDatabaseNamed: true })
  expect(readEnvironment({ EMBEDDED_POSTGRES_PORT: '15433', RINGBACK_DATA_DIR: '/data' })).toMatchObject({
    DATABASE_URL: 'postgres://ringback:ringback@127.0.0.1:15433/ringback',
    SPOOL_DIR: '/data/spool',
  })
  for (const named of [{ DATABASE_URL: 'postgres://db/x' }, { REDIS_URL: 'redis://queue' }]) {
    expect(readEnvironment(named).SPOOL_DIR).toBeUndefined()
  }
})

test('the demo credentials are on where `npm start` has them, and nowhere else', async () => {
  const isDemo = async (environment: Record<string, string>) =>
    (await readConfig({ RINGBACK_CONFIG, ...environment })).sources.get('voximplant')?.usesDemoCredentials
  expect(await isDemo({})).toBe(true)
  expect(await isDemo({ VOXIMPLANT_API_KEY: '', VOXIMPLANT_SALT: ' ' })).toBe(true)
  expect(await isDemo({ VOXIMPLANT_ACCOUNT_ID: '1', VOXIMPLANT_API_KEY: 'own', VOXIMPLANT_SALT: 's' })).toBe(false)
  expect(await isDemo({ FONESTORM_USERNAME: 'own', FONESTORM_PASSWORD: 'own' })).toBeUndefined()
  expect(await isDemo({ DATABASE_URL: 'postgres://db/x' })).toBeUndefined()
  expect(await isDemo({ REDIS_URL: 'redis://queue' })).toBeUndefined()
})

test('a spool is never drained into the database of `npm start` for want of a variable', () => {
  expect(() => readDrainEnvironment({ SPOOL_DIR: '/spool' })).toThrow(/REDIS_URL is needed, or DATABASE_URL/)
  expect(readDrainEnvironment({ SPOOL_DIR: '/spool', REDIS_URL: 'redis://queue' }).REDIS_URL).toBe('redis://queue')
})

test('the check finds whatever ingest, worker or standalone would refuse of their variables, and all of it at once', async () => {
  const file = join(folder, 'broken.ts')
  writeFileSync(file, 'export default { sources: {}, alerts: { quietMinuts: 5 } }')
  const variables = {
    DATABASE_URL: 'mysql://x',
    REDIS_URL: 'redis://:p#w@redis',
    PORT: 'abc',
    RETENTION_DAYS: '3',
    LOG_LEVEL: 'loud',
    SPOOL_MAX_BYTES: '1',
    STUCK_AFTER_SECONDS: '5',
    EMBEDDED_POSTGRES_PORT: '0',
  }
  const message = await checkConfig({ RINGBACK_CONFIG: file, ...variables }).catch(String)
  expect(message).toContain('quietMinuts')
  for (const name of Object.keys(variables)) expect(message).toMatch(new RegExp(`^  ${name} must (be|have) `, 'm'))
  expect(message).not.toMatch(/loud|Invalid|NaN/)

  await expect(checkConfig({ RINGBACK_CONFIG, ROOT_SOURCE: 'nope', NAME_RETENTION_DAYS: '30' })).rejects.toThrow(
    /NAME_RETENTION_DAYS is 30[^]*ROOT_SOURCE names "nope".* those are: voximplant$/m,
  )
  await expect(checkConfig({ RINGBACK_CONFIG, DATABASE_URL: 'postgres://a,b/x' })).rejects.toThrow(
    /DATABASE_URL must name one host for a queue in Postgres/,
  )
  await checkConfig({ RINGBACK_CONFIG, DATABASE_URL: 'postgres://a,b/x', REDIS_URL: 'redis://queue' })
  await expect(checkConfig({ RINGBACK_CONFIG, ROOT_SOURCE: 'vobiz', DATABASE_URL: 'postgres://db/x' })).rejects.toThrow(
    /ROOT_SOURCE names "vobiz", which is no source that is on, for none is$/,
  )
  await expect(
    checkConfig({ RINGBACK_CONFIG, ROOT_SOURCE: 'voximplant', VOXIMPLANT_URL_TOKEN: 'token' }),
  ).rejects.toThrow(/ROOT_SOURCE names "voximplant", whose URLs end in one of its urlTokens/)
  await expect(checkConfig({ RINGBACK_CONFIG, ROOT_SOURCE: 'voximplant', PORT: '3000' })).resolves.toBeDefined()
})
