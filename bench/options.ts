import { parseArgs } from 'node:util'

/** The sections that can be measured, in their order. */
export const SECTIONS = [
  'load',
  'shapes',
  'processes',
  'handler',
  'acks',
  'floors',
  'latency',
  'idle',
  'slow-disk',
] as const
export type Section = (typeof SECTIONS)[number]

export interface Options {
  profile: 'quick' | 'default' | 'full'
  /** How often each design is measured; the designs take turns. */
  rounds: number
  /** The same for sections other than the main table. */
  sideRounds: number
  /** How long the load of each run takes, after a warm-up of its own. */
  seconds: number
  connections: number
  sections: readonly Section[]
  /** Whether to write docs/performance.md and docs/charts. */
  write: boolean
  /** A file to write all results to as JSON. */
  json: string | undefined
}

const PROFILES = {
  quick: { rounds: 1, sideRounds: 1, seconds: 1 },
  default: { rounds: 3, sideRounds: 2, seconds: 3 },
  full: { rounds: 7, sideRounds: 5, seconds: 5 },
} as const

/** @throws with a message for whoever typed the command */
export function parseOptions(argv: string[]): Options {
  const { values } = parseArgs({
    args: argv,
    options: {
      quick: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      connections: { type: 'string', default: '64' },
      only: { type: 'string', multiple: true },
      write: { type: 'boolean', default: false },
      json: { type: 'string' },
    },
  })
  if (values.quick && values.full) throw new Error('--quick and --full exclude each other')
  const profile = values.quick ? 'quick' : values.full ? 'full' : 'default'
  const defaults = PROFILES[profile]
  const sections = values.only?.map(section) ?? SECTIONS
  if (values.write && sections.length < SECTIONS.length)
    throw new Error('--write needs every section, so it excludes --only')
  return {
    profile,
    rounds: count('rounds', values.rounds) ?? defaults.rounds,
    sideRounds: count('rounds', values.rounds) ?? defaults.sideRounds,
    seconds: count('seconds', values.seconds) ?? defaults.seconds,
    connections: count('connections', values.connections)!,
    sections,
    write: values.write,
    json: values.json,
  }
}

function count(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number, at least 1`)
  return value
}

function section(text: string): Section {
  const found = SECTIONS.find((name) => name === text)
  if (found === undefined) throw new Error(`--only takes one of: ${SECTIONS.join(', ')}`)
  return found
}
