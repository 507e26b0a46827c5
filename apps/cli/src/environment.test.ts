import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readConfig, readDrainEnvironment, readEnvironment } from './environment.ts'

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
