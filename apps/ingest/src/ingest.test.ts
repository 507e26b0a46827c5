import { resolveConfig } from '@ringback/core/config'
import { createLogger } from '@ringback/core/log'
import { voximplant } from '@ringback/core/providers/voximplant'
import { expect, test } from 'vitest'
import { createIngest } from './ingest.ts'

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
