import { providers } from '@ringback/core/providers/all'
import { recipeOf } from '@ringback/core/providers/page'
import type { Fact, Provider, SchemeFacts, SchemeProfile } from '@ringback/core/providers/provider'
import type { Command } from 'commander'
import { print } from '../output.ts'

/** `ringback providers` */
export function addProvidersCommand(program: Command): void {
  program
    .command('providers')
    .description('the providers that Ringback knows: how they sign, what that proves, how to set them up')
    .argument('[name]', 'everything about this one')
    .action((name: string | undefined, _options: unknown, command: Command) => {
      const chosen = name === undefined ? providers : providers.filter((provider) => provider.name === name)
      if (chosen.length === 0) {
        throw new Error(`There is no provider "${name}"; there are: ${providers.map((known) => known.name).join(', ')}`)
      }
      for (const [index, provider] of chosen.entries()) {
        const text = name === undefined ? summary(provider) : description(provider)
        print(command, asData(provider), index === 0 ? text : `\n${text}`)
      }
    })
}

const FACTS = {
  signedText: 'signed',
  secret: 'secret',
  covers: 'proves',
  callbackId: 'id',
  type: 'type',
  occurredAt: 'time',
  account: 'account',
  callId: 'call id',
  timeLimit: 'time limit',
  retries: 'retries',
  answer: 'answer',
} as const satisfies Partial<Record<keyof SchemeFacts, string>>

const IN_SUMMARY = ['signedText', 'covers', 'callbackId'] as const

/** The few lines that help to choose a scheme. */
export function summary({ name, title, schemes }: Provider): string {
  return [
    `${name}: ${title}`,
    ...Object.entries(schemes).flatMap(([scheme, { facts }]) => [
      `  ${scheme}: ${facts.title}`,
      ...IN_SUMMARY.map((key) => factLine(FACTS[key], facts[key])),
    ]),
  ].join('\n')
}

/** Everything that is known of a provider, each fact with its source. */
export function description(provider: Provider): string {
  const { name, title, schemes, options = {}, sourceAddresses, setUp, references } = provider
  return [
    `${name}: ${title}`,
    ...Object.entries(schemes).flatMap(([scheme, profile]) => ['', ...schemeLines(scheme, profile)]),
    '',
    `Source addresses: ${inWords(sourceAddresses)}`,
    '',
    'In ringback.config.ts:',
    ...recipeOf(provider)
      .split('\n')
      .map((line) => (line === '' ? '' : `  ${line}`)),
    ...optionLines(options),
    '',
    'Set-up:',
    ...setUp.map((step, index) => `  ${index + 1}. ${step}`),
    '',
    'References:',
    ...references.map((reference) => `  - ${reference}`),
  ].join('\n')
}

function optionLines(options: Record<string, string>): string[] {
  const lines = Object.entries(options).map(([option, text]) => `  ${option}: ${text}`)
  return lines.length === 0 ? [] : ['', 'Options beside those of all sources:', ...lines]
}

function schemeLines(scheme: string, { facts, methods, samples }: SchemeProfile): string[] {
  const keys = Object.keys(FACTS) as (keyof typeof FACTS)[]
  return [
    `Scheme ${scheme}: ${facts.title}`,
    labelled('methods', methods.join(', ')),
    ...(facts.headers.length > 0 ? [labelled('headers', facts.headers.join(', '))] : []),
    ...keys.map((key) => factLine(FACTS[key], facts[key])),
    ...(facts.traps.length > 0 ? ['  Traps:', ...facts.traps.map((trap) => `    - ${trap}`)] : []),
    '  Events to send:',
    `    ${Object.keys(samples).join(', ')}`,
  ]
}

function factLine(label: string, fact: Fact): string {
  return labelled(label, inWords(fact))
}

function labelled(label: string, text: string): string {
  return `    ${label.padEnd(11)} ${text}`
}

function inWords({ text, basis }: Fact): string {
  return `${text} [${basis}]`
}

/** The provider's data without its functions. */
function asData(provider: Provider): object {
  const { name, title, schemes, options, sourceAddresses, setUp, references } = provider
  const data = Object.entries(schemes).map(([scheme, { facts, methods, envelope, delivery, samples }]) => [
    scheme,
    {
      ...facts,
      methods,
      batches: envelope !== undefined,
      delivery: { timeoutMs: delivery.timeoutMs, retryDelaysMs: delivery.retryDelaysMs },
      samples,
    },
  ])
  const recipe = recipeOf(provider)
  return { name, title, schemes: Object.fromEntries(data), recipe, options, sourceAddresses, setUp, references }
}
