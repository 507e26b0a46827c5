import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '@ringback/core/config'
import { providers } from '@ringback/core/providers/all'
import type { OutgoingRequest, Source } from '@ringback/core/providers/provider'
import { publicUrl } from '@ringback/core/providers/request-origin'
import { fillSample } from '@ringback/core/providers/sample'
import { events, quarantine } from '@ringback/core/store/schema'
import type { Command } from 'commander'
import { and, desc, eq, gt, isNull } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { diagnose } from '../diagnose.ts'
import { readConfig, withDatabase } from '../environment.ts'
import { wholeNumber } from '../options.ts'
import { print } from '../output.ts'
import type { Quarantined } from '../quarantined-request.ts'

/** `ringback doctor` */
export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('send one event through the public URL of a source, and explain what is wrong')
    .argument('<source>', 'the name of a source in the configuration')
    .option('--url <url>', 'instead of PUBLIC_BASE_URL: where URLs begin')
    .option('--secret <secret>', 'sign with this; needed where Ringback holds only a public key')
    .option('--recent <n>', 'how many of the newest refusals of this source to look at', wholeNumber(0, 1000), 20)
    .action(async (name: string, options: DoctorOptions, self: Command) => {
      const findings: Finding[] = []
      const config = await readConfig()
      const source = sourceNamed(config, name)
      await examine({ name, source, config, options, report: (finding) => findings.push(finding) })
      const isWell = findings.every(({ ok }) => ok)
      print(self, { source: name, ok: isWell, findings }, findings.map(line).join('\n'))
      if (!isWell) process.exitCode = 1
    })
}

interface DoctorOptions {
  url?: string
  secret?: string
  recent: number
}

/** One thing that was looked at. */
interface Finding {
  ok: boolean
  text: string
}

interface Examination {
  name: string
  source: Source
  config: Config
  options: DoctorOptions
  report: (finding: Finding) => void
}

function line({ ok, text }: Finding): string {
  return `${ok ? 'ok     ' : 'problem'}  ${text}`
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

async function examine(examination: Examination): Promise<void> {
  const { name, source, report } = examination
  report({ ok: true, text: `${name} is ${source.provider}, scheme ${source.scheme}` })
  if (source.shadow) report({ ok: false, text: 'It is in shadow mode: whatever it would refuse is accepted' })
  if (source.usesDemoCredentials)
    report({ ok: false, text: 'Its credentials are the public ones of the documentation' })
  const url = callbackUrl(examination)
  if (url === undefined) return
  if (!url.startsWith('https://')) {
    report({ ok: false, text: `${url} is not HTTPS: providers demand it, and secrets in URLs and headers need it` })
  }
  if (!(await probe(url, report))) return
  const startedAt = new Date()
  const request = signedSample(examination, url, startedAt)
  if (request === undefined) return
  const status = await send(request, report)
  await withDatabase(async (database) => {
    await followUp(database, examination, { request, status, startedAt })
    await lookBack(database, examination, startedAt)
  })
}

/** The URL that belongs into the provider's settings. */
function callbackUrl({ name, source, config, options, report }: Examination): string | undefined {
  const [token] = source.urlTokens
  const target = `/callbacks/${name}${token === undefined ? '' : `/${encodeURIComponent(token)}`}`
  const base = options.url ?? source.publicBaseUrl ?? config.origin.publicBaseUrl
  if (base !== undefined) {
    const inner = { target, header: () => undefined, remoteAddress: undefined }
    return publicUrl({ ...config.origin, publicBaseUrl: base }, inner)
  }
  report({ ok: false, text: 'The public URL is not known: set PUBLIC_BASE_URL, or give --url' })
  return undefined
}

const TIMEOUT_MS = 10_000

/** Asks the URL as a control panel does. Whether it is Ringback that answers. */
async function probe(url: string, report: (finding: Finding) => void): Promise<boolean> {
  let response: Response
  try {
    response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS) })
  } catch (error) {
    report({ ok: false, text: `${url} cannot be reached: ${networkAdvice(error as Error)}` })
    return false
  }
  const body = await response.text()
  clock(response, report)
  if (response.status === 200 && body.includes('"ready"')) {
    report({ ok: true, text: `${shown(url)} answers, and it is Ringback` })
    return true
  }
  report({ ok: false, text: `${shown(url)} answers ${response.status}: ${statusAdvice(response)}` })
  return false
}

function networkAdvice(error: Error): string {
  const cause = error.cause as { code?: string; message?: string } | undefined
  const code = cause?.code ?? error.name
  const advice = new Map([
    ['ENOTFOUND', 'its name has no address in DNS'],
    ['ECONNREFUSED', 'nothing listens there: is the proxy running, and is the port open?'],
    ['ETIMEDOUT', 'no answer: a firewall?'],
    ['TimeoutError', 'no answer within 10 s: a firewall, or a proxy that waits for Ringback?'],
    ['CERT_HAS_EXPIRED', 'its certificate has expired'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'its certificate is signed by itself; providers refuse that'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'its certificate comes without the intermediate one: serve the full chain'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'its certificate is for another name'],
  ]).get(code)
  return `${advice ?? cause?.message ?? error.message} (${code})`
}

function statusAdvice(response: Response): string {
  const { status } = response
  if (status >= 300 && status < 400)
    return `it redirects to ${response.headers.get('location') ?? 'nowhere'}; providers do not follow with a POST, so give them that URL`
  if (status === 404)
    return 'a proxy changes or drops the path, or the Ringback there does not have this source or token'
  if (status === 401 || status === 403) return 'something before Ringback asks for a login or blocks'
  if (status === 502 || status === 503 || status === 504) return 'the proxy does not reach Ringback'
  return 'this is not Ringback'
}

const MAX_SKEW_MS = 30_000

function clock(response: Response, report: (finding: Finding) => void): void {
  const date = Date.parse(response.headers.get('date') ?? '')
  const skewMs = Math.abs(Date.now() - date)
  if (Number.isNaN(date) || skewMs < MAX_SKEW_MS) return
  report({
    ok: false,
    text: `The clocks here and there differ by ${Math.round(skewMs / 1000)} s: signed times will be refused`,
  })
}

/** Without the token, which is for the provider alone. */
function shown(url: string): string {
  return url.replace(/(\/callbacks\/[^/?]+)\/[^/?]+/, '$1/***')
}

function signedSample({ source, options, report }: Examination, url: string, at: Date): OutgoingRequest | undefined {
  const provider = providers.find(({ name }) => name === source.provider)
  const sample = Object.values(provider?.schemes[source.scheme]?.samples ?? {})[0]
  if (sample === undefined) {
    report({ ok: false, text: `There is no sample of ${source.provider}, scheme ${source.scheme}, to send` })
    return undefined
  }
  const { method, query, headers, body } = fillSample(sample, at)
  const search = new URLSearchParams(query).toString()
  const whole = source.envelope !== undefined && body.length > 0 ? source.envelope([body]) : body
  const unsigned = { method, url: search === '' ? url : `${url}?${search}`, headers, body: whole }
  try {
    return source.sign(unsigned, { at, secret: options.secret })
  } catch {
    report({
      ok: false,
      text: 'Only the provider can sign for this source: --secret takes a private key of a pair of your own',
    })
    return undefined
  }
}

async function send(request: OutgoingRequest, report: (finding: Finding) => void): Promise<number | undefined> {
  const sentAt = performance.now()
  try {
    const { status } = await fetch(request.url, {
      method: request.method,
      headers: request.headers,
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(request.method !== 'GET' && { body: new Uint8Array(request.body) }),
    })
    const ms = Math.round(performance.now() - sentAt)
    report({ ok: status === 200, text: `A signed sample was answered ${status} in ${ms} ms` })
    return status
  } catch (error) {
    report({ ok: false, text: `A signed sample was not answered: ${networkAdvice(error as Error)}` })
    return undefined
  }
}

const STORED_WITHIN_MS = 10_000

/** What became of the sample, as the database knows it. */
async function followUp(
  database: PostgresJsDatabase,
  { name, source, config, report }: Examination,
  { request, status, startedAt }: { request: OutgoingRequest; status: number | undefined; startedAt: Date },
): Promise<void> {
  if (status === undefined) return
  const read = source.read({
    ...request,
    header: (header) => request.headers[header],
    remoteAddress: undefined,
    receivedAt: startedAt,
  })
  const sent = read.kind === 'read' ? read.callbacks.find(({ kind }) => kind === 'genuine') : undefined
  for (const deadline = Date.now() + STORED_WITHIN_MS; Date.now() < deadline; await sleep(200)) {
    const [row] = status === 200 ? [] : await refusals(database, name, { since: startedAt, limit: 1 })
    if (row !== undefined) {
      for (const text of diagnoseSample(row, request, source, config)) report({ ok: false, text })
      return
    }
    if (status !== 200 || sent?.callbackId === undefined) continue
    const [event] = await database
      .select({
        id: events.id,
        receivedAt: events.receivedAt,
        storedAt: events.storedAt,
        verifiedBy: events.verifiedBy,
      })
      .from(events)
      .where(and(eq(events.source, name), eq(events.callbackId, sent.callbackId)))
    if (event === undefined) continue
    const ms = event.storedAt.getTime() - event.receivedAt.getTime()
    report({
      ok: true,
      text: `It was stored as event ${event.id} ${ms} ms after it came, verified by "${event.verifiedBy}"`,
    })
    return
  }
  report({
    ok: false,
    text:
      status === 200
        ? 'It was acknowledged but not stored within 10 s: is a worker running, and is this DATABASE_URL its database?'
        : 'Nothing about it is in quarantine: something before Ringback answered, or this DATABASE_URL is another one',
  })
}

function diagnoseSample(row: Quarantined, request: OutgoingRequest, source: Source, config: Config): string[] {
  const missing = Object.keys(request.headers).filter((name) => row.headers[name] === undefined)
  return [
    ...(row.scope === 'request' && request.method !== 'GET' && !row.body.equals(request.body)
      ? ['The body that arrived is not the one that was sent: something on the way rewrites it']
      : []),
    ...(missing.length > 0 ? [`These headers did not arrive: ${missing.join(', ')}; does a proxy drop them?`] : []),
    ...diagnose(row, source, config),
  ]
}

/** What the provider's own requests were refused for. */
async function lookBack(
  database: PostgresJsDatabase,
  { name, source, config, options, report }: Examination,
  before: Date,
): Promise<void> {
  const rows = options.recent === 0 ? [] : await refusals(database, name, { limit: options.recent })
  const counts = new Map<string, number>()
  for (const row of rows.filter(({ receivedAt }) => receivedAt < before)) {
    for (const text of diagnose(row, source, config)) {
      const general = text.replaceAll(row.id, '<id>')
      counts.set(general, (counts.get(general) ?? 0) + 1)
    }
  }
  for (const [text, count] of counts) report({ ok: false, text: `Of the newest refusals, ${count}: ${text}` })
}

function refusals(
  database: PostgresJsDatabase,
  source: string,
  { since, limit }: { since?: Date; limit: number },
): Promise<Quarantined[]> {
  return database
    .select()
    .from(quarantine)
    .where(
      and(
        eq(quarantine.source, source),
        isNull(quarantine.releasedAt),
        since === undefined ? undefined : gt(quarantine.receivedAt, since),
      ),
    )
    .orderBy(desc(quarantine.receivedAt))
    .limit(limit)
}
