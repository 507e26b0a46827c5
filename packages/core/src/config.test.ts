import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { defineConfig, env, loadConfig, parseEnvironment, resolveConfig } from './config.ts'
import { code, log } from './handlers.ts'
import { voximplant } from './providers/voximplant.ts'

const folder = mkdtempSync(join(tmpdir(), 'ringback-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

function fileWith(content: string): string {
  const file = join(folder, `${Math.random()}.ts`)
  writeFileSync(file, content)
  return file
}

const sources = { voximplant: voximplant({ urlTokens: env('TOKEN') }) }

test('the configuration of the repository is valid with nothing set, and its sources are then off', async () => {
  const config = await loadConfig(join(import.meta.dirname, '../../../ringback.config.ts'), {})
  expect(config.sourcesOff).toEqual(['voximplant', 'vobiz', 'fonestorm'])
  expect(config.handlers.map(({ name }) => name)).toEqual(['low-balance'])
})

test('a value comes from its variable, or from the file that NAME_FILE names', () => {
  const tokens = (environment: Record<string, string>) =>
    resolveConfig({ sources }, environment).sources.get('voximplant')?.urlTokens
  expect(tokens({ TOKEN: 'a' })).toEqual(['a'])
  expect(tokens({ TOKEN_FILE: fileWith(' spaces stay \n') })).toEqual([' spaces stay '])
  expect(tokens({ TOKEN: '' })).toBeUndefined()
})

test('a secret file that cannot be read is an error, not an unset value', () => {
  expect(() => resolveConfig({ sources }, { TOKEN_FILE: join(folder, 'missing') })).toThrow(
    /TOKEN_FILE names a file that cannot be read \(ENOENT\)/,
  )
})

describe('all problems are reported together', () => {
  test('in the configuration', () => {
    const broken = {
      sources: { 'Not A Slug': sources.voximplant },
      handlers: [
        { name: 'x', on: { tpye: 'a' }, run: log({ message: 'm' }) },
        { name: 'y', run: 5 },
      ],
    }
    expect(() => resolveConfig(broken, {})).toThrow(/Not A Slug[^]*tpye[^]*handlers\.1\.run/)
  })

  test('in the environment, and without the values', () => {
    const schema = z.object({ PORT: z.coerce.number().int(), LEVEL: z.enum(['a', 'b']), URL: z.string() })
    expect(() => parseEnvironment(schema, { PORT: 'hush', LEVEL: 'hush' })).toThrow(/PORT[^]*LEVEL[^]*URL/)
    expect(() => parseEnvironment(schema, { PORT: 'hush', LEVEL: 'hush' })).not.toThrow(/hush/)
  })
})

test('two handlers of one name are an error, for a delivery belongs to its handler by name', () => {
  const handler = { name: 'twice', run: code(() => {}) }
  expect(() => resolveConfig(defineConfig({ sources, handlers: [handler, handler] }), {})).toThrow(
    /two are named "twice"/,
  )
})

test('a file that cannot be loaded says which it is and why', async () => {
  await expect(loadConfig(join(folder, 'missing.ts'), {})).rejects.toThrow(/missing\.ts cannot be loaded/)
})
