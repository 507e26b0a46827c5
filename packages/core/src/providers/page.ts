import type { Fact, Provider, SchemeFacts, SchemeProfile } from './provider.ts'

// docs/providers.md, from what the presets say of themselves.

/** The whole page. */
export function providersPage(providers: readonly Provider[]): string {
  return `# Providers

What each provider sends, how it signs, and how to set it up. [sources.md](sources.md) covers what all sources have in common:
options, URL tokens, proxies, shadow mode, rotation, quarantine. In each recipe, the \`import\` goes to the top of
[ringback.config.ts](configuration.md#ringbackconfigts), and the rest into its \`sources\`. [restarts.md](restarts.md#after-a-change)
says how to restart Ringback after that.

Facts without a mark are documented by the vendor. *Observed*: seen by third parties, not promised. *Assumed*: stated by no source.
*Unknown*: looked for and not found.

\`pnpm providers-page\` generates this page from \`packages/core/src/providers\`; \`ringback providers <name>\` prints the same.

${table(
  ['provider', 'scheme', 'what arrives', 'what the proof covers'],
  providers.flatMap((provider) =>
    schemesOf(provider).map(([name, { facts }]) => [
      `[${provider.title}](#${anchor(provider.title)})`,
      `\`${name}\``,
      facts.title,
      fact(facts.covers),
    ]),
  ),
)}

${providers.map(section).join('\n\n')}
`
}

function schemesOf(provider: Provider): [string, SchemeProfile][] {
  return Object.entries(provider.schemes)
}

function section(provider: Provider): string {
  const schemes = schemesOf(provider)
  return `## ${provider.title}

\`\`\`ts
${recipeOf(provider)}
\`\`\`

${provider.setUp.map((step, index) => `${index + 1}. ${step}`).join('\n')}

${optionsTable(provider)}Source addresses: ${fact(provider.sourceAddresses)}

${schemes.map(([name, scheme]) => schemeSection(name, scheme, schemes.length > 1)).join('\n\n')}

Sources: ${provider.references.join('; ')}.`
}

/** How a source of the provider is written in the configuration, with the import that it needs. */
export function recipeOf({ name, example }: Provider): string {
  const preset = name.replaceAll(/-(\w)/g, (_match, letter: string) => letter.toUpperCase())
  const variable = name.toUpperCase().replaceAll('-', '_')
  const usual = `${/^\w+$/.test(name) ? name : `'${name}'`}: ${preset}({ secrets: [env('${variable}_SECRET'), env('${variable}_SECRET_PREVIOUS')] }),`
  return `import { ${preset} } from '@ringback/core/providers/${name}'

${example ?? usual}`
}

function optionsTable({ options }: Provider): string {
  if (options === undefined) return ''
  const rows = Object.entries(options).map(([option, text]) => [`\`${option}\``, text])
  return `Options in addition to [those of all sources](sources.md#options):

${table(['option', 'what it is'], rows)}

`
}

const ROWS: readonly [Exclude<keyof SchemeFacts, 'title' | 'headers' | 'traps'>, string][] = [
  ['signedText', 'what is signed'],
  ['secret', 'secret'],
  ['covers', 'what the proof covers'],
  ['callbackId', '`callback_id`'],
  ['type', '`type`'],
  ['occurredAt', '`occurred_at`'],
  ['account', '`account_id`'],
  ['callId', '`call_id`'],
  ['timeLimit', 'time limit'],
  ['retries', 'repetitions'],
  ['answer', 'expected answer'],
]

function schemeSection(name: string, { facts, methods, samples }: SchemeProfile, isOneOfSeveral: boolean): string {
  const headers = facts.headers.map((header) => `\`${header}\``).join(', ')
  const rows = [
    ['methods', methods.join(', ')],
    ...(headers === '' ? [] : [['headers', headers]]),
    ...ROWS.map(([key, title]) => [title, fact(facts[key])]),
    [
      'events for `ringback send`',
      Object.keys(samples)
        .map((event) => `\`${event}\``)
        .join(', '),
    ],
  ]
  const heading = isOneOfSeveral ? `### ${facts.title} (\`scheme: '${name}'\`)\n\n` : ''
  const traps = facts.traps.map((trap) => `- ${trap}`).join('\n')
  return `${heading}${table(['', ''], rows)}${traps === '' ? '' : `\n\n${traps}`}`
}

function fact({ text, basis }: Fact): string {
  return basis === 'documented' ? text : `${text} (*${basis}*)`
}

function table(head: string[], rows: string[][]): string {
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')
}

function row(cells: string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |`
}

function anchor(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, '')
    .replaceAll(' ', '-')
}
