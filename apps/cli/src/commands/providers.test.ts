import { providers } from '@ringback/core/providers/all'
import { recipeOf } from '@ringback/core/providers/page'
import { expect, test } from 'vitest'
import { description, summary } from './providers.ts'

test.each(providers.map((provider) => [provider.name, provider] as const))(
  'what is printed of %s leaves out no scheme, no trap, no event, no option, and not how it is configured',
  (_name, provider) => {
    const text = description(provider)
    for (const [scheme, { facts, samples }] of Object.entries(provider.schemes)) {
      expect(summary(provider)).toContain(`  ${scheme}: ${facts.title}`)
      expect(text).toContain(`Scheme ${scheme}: ${facts.title}`)
      for (const part of [...facts.traps, ...Object.keys(samples), facts.callbackId.text]) expect(text).toContain(part)
    }
    for (const part of [...provider.setUp, ...provider.references, provider.sourceAddresses.text]) {
      expect(text).toContain(part)
    }
    for (const option of Object.keys(provider.options ?? {})) expect(text).toContain(`  ${option}: `)
    for (const line of recipeOf(provider).split('\n')) expect(text).toContain(line)
  },
)
