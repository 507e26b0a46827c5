import { resolveConfig } from '@ringback/core/config'
import { createLogger } from '@ringback/core/log'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { expect, test } from 'vitest'
import { createIngest, safeHostname } from './ingest.ts'

test.each([
  ['nobody', /ROOT_SOURCE names "nobody", which is no source that is on; those are: secret/],
  [
    'secret',
    /ROOT_SOURCE names "secret", whose URLs end in one of its urlTokens.*name another, or leave out urlTokens/,
  ],
])(
  'a ROOT_SOURCE that would answer nothing, %s, is refused at the start, with what to do',
  async (rootSource, text) => {
    const starting = createIngest({
      config: resolveConfig({ sources: { secret: voximplant({ urlTokens: 'token' }) } }, {}),
      queue: { kind: 'redis', url: 'redis://127.0.0.1:9', prefix: '{test}' },
      log: createLogger('test', 'silent'),
      hostname: '127.0.0.1',
      port: 0,
      rootSource,
    })
    await expect(starting).rejects.toThrow(text)
  },
)

test('with credentials that everybody knows only this machine may send, and the log says so', () => {
  const { accountId, apiKey, salt } = demoCredentials
  const demo = voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] })
  const own = voximplant({ accounts: [{ accountId, apiKey: 'own', salts: ['own'] }] })
  const lines: string[] = []
  const log = createLogger('test', 'info', { write: (line) => void lines.push(line) })
  expect(safeHostname(resolveConfig({ sources: { own } }, {}), '0.0.0.0', log)).toBe('0.0.0.0')
  expect(lines).toEqual([])
  expect(safeHostname(resolveConfig({ sources: { own, demo } }, {}), '0.0.0.0', log)).toBe('127.0.0.1')
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { msg: 'credentials.demo', sources: ['demo'], hostname: '127.0.0.1' },
  ])
})
