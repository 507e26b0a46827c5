import { writeFile } from 'node:fs/promises'
import { providers } from '@ringback/core/providers/all'
import { providersPage } from '@ringback/core/providers/page'

// Writes docs/providers.md.
await writeFile(new URL('../docs/providers.md', import.meta.url), providersPage(providers))
