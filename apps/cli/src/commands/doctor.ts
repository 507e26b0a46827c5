import type { Config } from '@ringback/core/config'
import type { Source } from '@ringback/core/providers/provider'
import { baseOfCallbackUrl, publicUrl } from '@ringback/core/providers/request-origin'
import { isBaseUrl } from '@ringback/core/providers/source'
import type { Sql } from '@ringback/core/store/connect'
import { migrationProblem } from '@ringback/core/store/migrate'
import { unsafeDatabaseSettings } from '@ringback/core/store/unsafe-settings'
import type { Command } from 'commander'
import { followSample } from '../doctor/follow-sample.ts'
import type { Examination, Finding, Report } from '../doctor/examination.ts'
import { lookBack } from '../doctor/look-back.ts'
import { probeUrl } from '../doctor/probe-url.ts'
import { sendSample } from '../doctor/send-sample.ts'
import { readConfig, withDatabase, withSql } from '../environment.ts'
import { wholeNumber } from '../options.ts'
import { oneLine, print } from '../output.ts'

/** `ringback doctor` */
export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('send one event through the public URL of a source, and explain what is wrong')
    .argument('<source>', 'the name of a source in the configuration')
    .option('--url <url>', 'a callback URL, or where callback URLs begin, in place of PUBLIC_BASE_URL')
    .option('--secret <secret>', 'what to sign with; required if Ringback has only a public key')
    .option('--wait <seconds>', 'how long to wait for the event to be stored', wholeNumber(1, 600), 10)
    .option('--recent <n>', 'how many of the newest refusals of this source to examine', wholeNumber(0, 1000), 20)
    .addHelpText('after', '\nThe event is stored and handled like any other. The exit code is 1 if there is a problem.')
    .action(async (name: string, options: DoctorOptions, self: Command) => {
      const config = await readConfig()
      const source = sourceNamed(config, name)
      const findings: Finding[] = []
      const report: Report = (level, text) => void findings.push({ level, text })
      await examine({ name, source, config, report }, options)
      const isWell = findings.every(({ level }) => level !== 'problem')
      print(self, { source: name, ok: isWell, findings }, findings.map(line).join('\n'))
      if (!isWell) process.exitCode = 1
    })
}

interface DoctorOptions {
  url?: string
  secret?: string
  wait: number
  recent: number
}

function line({ level, text }: Finding): string {
  return oneLine(`${level.padEnd(7)}  ${text}`)
}

function sourceNamed(config: Config, name: string): Source {
  const source = config.sources.get(name)
  if (source !== undefined) return source
  if (config.sourcesOff.includes(name))
    throw new Error(
      `The source "${name}" is off: none of the variables that it reads is set; see "ringback config check"`,
    )
  throw new Error(
    `There is no source "${name}"; there are ${[...config.sources.keys()].join(', ') || 'none that are on'}`,
  )
}

async function examine(asked: Omit<Examination, 'baseUrl'>, options: DoctorOptions): Promise<void> {
  const { name, source, config, report } = asked
  report('ok', `${name} is ${source.provider}, scheme ${source.scheme}`)
  if (source.shadow) report('note', 'It is in shadow mode: whatever it would refuse is accepted')
  if (source.usesDemoCredentials)
    report('problem', 'Its credentials are the public ones of the documentation: anybody can send')
  const ofUrl = options.url && (baseOfCallbackUrl(options.url, name) ?? options.url)
  const baseUrl = ofUrl ?? source.publicBaseUrl ?? config.origin.publicBaseUrl
  if (baseUrl === undefined) {
    report('problem', 'The public URL is not known: set PUBLIC_BASE_URL, or give --url')
    return
  }
  if (!isBaseUrl(baseUrl)) throw new Error('--url must begin with https:// or http:// and have no query')
  const examination = { ...asked, baseUrl }
  const url = callbackUrl(examination)
  const { isRingback, skewMs } = await probeUrl(url, source.urlTokens, report)
  const startedAt = Date.now()
  const sample = isRingback ? await sendSample(url, { source, secret: options.secret, report }) : undefined
  try {
    await withSql(async (sql) => {
      await reportUnsafeSettings(sql, report)
      // The workers wait for them too, and store nothing until then.
      const problem = await migrationProblem(sql)
      if (problem !== undefined) throw new Error(problem)
    })
    await withDatabase(async (database) => {
      if (sample !== undefined) {
        // The clock there may be behind, and was read to the second only.
        const since = new Date(startedAt + Math.min(0, skewMs) - 2000)
        await followSample(database, sample, { ...examination, since, waitMs: options.wait * 1000 })
      }
      if (options.recent > 0) await lookBack(database, examination, options.recent)
    })
  } catch (error) {
    report('problem', `The database cannot be read: ${(error as Error).message}`)
  }
}

async function reportUnsafeSettings(sql: Sql, report: Report): Promise<void> {
  for (const { problem, mend } of await unsafeDatabaseSettings(sql)) report('note', `Postgres: ${problem}; ${mend}`)
}

/** The URL that belongs in the provider's settings. */
function callbackUrl({ name, source, config, baseUrl }: Examination): string {
  const [token] = source.urlTokens
  const target = `/callbacks/${name}${token === undefined ? '' : `/${encodeURIComponent(token)}`}`
  return publicUrl(
    { ...config.origin, publicBaseUrl: baseUrl },
    { target, header: () => undefined, remoteAddress: undefined },
  )
}
