import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { providers } from './all.ts'
import { providersPage } from './page.ts'

test('docs/providers.md says what the presets say; "pnpm providers-page" writes it', async () => {
  const page = await readFile(new URL('../../../../docs/providers.md', import.meta.url), 'utf8')
  expect(page).toBe(providersPage(providers))
})

test('every provider says how it is set up, where its facts come from, and has events to send', () => {
  for (const { name, setUp, references, schemes } of providers) {
    expect({ name, setUp: setUp.length > 0, references: references.length > 0 }).toEqual({
      name,
      setUp: true,
      references: true,
    })
    for (const [scheme, { samples }] of Object.entries(schemes)) {
      expect({ name, scheme, events: Object.keys(samples).length > 0 }).toEqual({ name, scheme, events: true })
    }
  }
})
