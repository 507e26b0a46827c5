import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { checkConfig } from './check-config.ts'

const folder = mkdtempSync(join(tmpdir(), 'ringback-cli-'))
afterAll(() => rmSync(folder, { recursive: true }))

const RINGBACK_CONFIG = join(import.meta.dirname, '../../../ringback.config.ts')

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
