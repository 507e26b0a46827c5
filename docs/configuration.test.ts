import { readFileSync } from 'node:fs'
import { queueVariables } from '@ringback/core/environment'
import { retentionVariables } from '@ringback/worker/retention'
import { expect, test } from 'vitest'

// Variables of the environment: those that the programs read, that configuration.md describes, and that docker-compose.yml
// passes on. A main.ts runs when it is imported, so that its variables are looked for in its text.

/** What the schemas of several programs hold. */
const shared = Object.entries({ queueVariables, retentionVariables })
const programs = {
  ingest: variablesOf('apps/ingest/src/main.ts'),
  worker: variablesOf('apps/worker/src/main.ts'),
  standalone: variablesOf('apps/standalone/src/main.ts'),
  CLI: variablesOf('apps/cli/src/environment.ts'),
}
const ofConfigFile = namesIn(textOf('ringback.config.ts'), /env\('([A-Z_]+)'\)/g)
const ofEveryConfig = namesIn(textOf('packages/core/src/config.ts'), /readVariable\(environment, '([A-Z_]+)'/g)
const ofTracing = namesIn(textOf('docs/metrics.md'), /`(OTEL_[A-Z_]+)/g)

const table = rowsOf(textOf('docs/configuration.md'))
const compose = textOf('docker-compose.yml')
/** What docker-compose.yml decides, so that docs/docker.md names it. */
const DECIDED = ['DATABASE_URL', 'REDIS_URL', 'SPOOL_DIR', 'PORT', 'HOST', 'OPS_PORT', 'OPS_HOST', 'RINGBACK_CONFIG']

test.each(Object.entries(programs))('configuration.md says of each variable whether %s reads it', (program, read) => {
  const described = table
    .filter(({ readers }) => readers === 'all' || readers.includes(program))
    .flatMap(({ names }) => names)
    .filter((name) => !ofEveryConfig.includes(name) && !name.startsWith('OTEL_'))
  expect(new Set(described)).toEqual(new Set(read))
})

test('config check looks at whatever a program reads', () => {
  // Which file it is has been read before.
  const checked = ['RINGBACK_CONFIG', ...variablesOf('apps/cli/src/check-config.ts')]
  expect(checked).toEqual(expect.arrayContaining(Object.values(programs).flat()))
})

test('configuration.md describes what ringback.config.ts reads, and what is read with every configuration', () => {
  const described = table.filter(({ readers }) => readers === '`ringback.config.ts`').flatMap(({ names }) => names)
  expect(new Set(described)).toEqual(new Set(ofConfigFile))
  expect(table.flatMap(({ names }) => names)).toEqual(expect.arrayContaining(ofEveryConfig))
})

test.each(['ingest', 'worker'] as const)('docker-compose.yml passes on whatever %s reads', (service) => {
  const given = namesIn(environmentOf(service), /^ +([A-Z_]+): \$\{\1:-/gm)
  const read = [...programs[service], ...ofConfigFile, ...ofEveryConfig, ...ofTracing]
  expect(read.filter((name) => !given.includes(name) && !DECIDED.includes(name))).toEqual([])
})

test.each(['ingest', 'worker'] as const)('%s gets all of .env, except what docker-compose.yml decides', (service) => {
  const environment = environmentOf(service)
  expect(environment).toContain('<<: *service')
  expect(/^x-service:.*\n(?: .*\n)+/m.exec(compose)![0]).toContain('env_file: [{ path: .env, required: false }]')
  const decided = namesIn(environment, /^ +([A-Z_]+): (?!\$\{\1:)/gm)
  const read = DECIDED.filter((name) => name !== 'SPOOL_DIR' || service === 'ingest')
  expect(decided).toEqual(expect.arrayContaining([...read, 'POSTGRES_PASSWORD', 'REDIS_PASSWORD']))
})

test('docker.md names what docker-compose.yml decides, and what only it reads', () => {
  const page = textOf('docs/docker.md')
  const described = [...programs.ingest, ...programs.worker, ...ofConfigFile, ...ofEveryConfig]
  const onlyForCompose = namesIn(compose, /\$\{([A-Z_]+)/g).filter((name) => !described.includes(name))
  const named = [...DECIDED, ...onlyForCompose].filter((name) => !name.startsWith('OTEL_'))
  expect(named.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
})

test('what stands in .env.example has an effect', () => {
  const offered = namesIn(textOf('.env.example'), /^([A-Z_]+)=/gm)
  expect(offered.filter((name) => !compose.includes(`\${${name}:`))).toEqual([])
})

function textOf(path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
}

function namesIn(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, name]) => name!)
}

/** The keys of the schema in this file. */
function variablesOf(path: string): string[] {
  const text = textOf(path)
  const own = namesIn(text, /^ +([A-Z_]+): (?:variables|known|z)\./gm)
  return [...own, ...shared.flatMap(([name, schema]) => (text.includes(`...${name},`) ? Object.keys(schema) : []))]
}

/** The table of variables. */
function rowsOf(page: string): { names: string[]; readers: string }[] {
  const [, section] = page.split('\n## Variables\n')
  const rows = section!.split('\n### ')[0]!.matchAll(/^\| (?<names>`[A-Z].*?) +\| (?<readers>.*?) +\|/gm)
  return [...rows].map(({ groups }) => ({ names: namesIn(groups!.names!, /`([A-Z_]+)`/g), readers: groups!.readers! }))
}

/** What docker-compose.yml says below `environment` for one service, and for all. */
function environmentOf(service: string): string {
  const [common] = /^x-environment:.*\n(?: .*\n)+/m.exec(compose)!
  const [own] = new RegExp(`^ {2}${service}:\\n(?: {4}.*\\n|\\n)+`, 'm').exec(compose)!
  return common + own
}
