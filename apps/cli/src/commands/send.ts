import type { Command } from 'commander'
import { readConfig, readEnvironment } from '../environment.ts'
import { print, showProgress } from '../output.ts'
import { share, wholeNumber } from '../options.ts'
import { findSender } from '../send/find-sender.ts'
import { makeRequests } from '../send/make-requests.ts'
import { planRequests } from '../send/plan-requests.ts'
import type { PlannedRequest } from '../send/plan-requests.ts'
import { checkSecret, provesEach, refusesStale } from '../send/probe-signing.ts'
import { sendAll } from '../send/send-requests.ts'
import type { SendReport } from '../send/send-requests.ts'

interface SendOptions {
  scheme?: string
  secret?: string
  url?: string
  count: number
  batch: number
  duplicates: number
  forged: number
  stale: number
  reorder?: boolean
  seed: number
  slowBody: number
  drop: number
  wrongContentType?: boolean
  rate?: number
  concurrency: number
  retry: boolean
  retryDelay: number
}

const EXPLANATION = `
It follows the provider's rules: its time limit, which answers count as delivered, after which it tries again, and how
often. Pauses between attempts are at most --retry-delay, so that a run ends. The URL that is signed is the one at
PUBLIC_BASE_URL, wherever the request goes. A repetition has a new signature, unless a nonce is signed: then it is the
same request again. The exit code is 1 if a request was given up or failed, or was refused but neither forged nor stale.

Examples:
  ringback send voximplant min_balance --count 1000 --batch 10 --duplicates 20% --forged 10%
  ringback send standard-webhooks contact.created --secret whsec_... --url https://staging.example.com/hooks`

/** `ringback send` */
export function addSendCommand(program: Command): void {
  program
    .command('send')
    .description('act as the provider: send callbacks, signed as it signs them')
    .argument(
      '<provider>',
      'a source of the configuration; or a provider, for the first of its sources that has the event',
    )
    .argument(
      '<event>',
      'one that "ringback providers <provider>" lists; for Voximplant any other too, without data of its own',
    )
    .option('--scheme <name>', "which of the provider's ways of calling back; default: the source's")
    .option('--secret <secret>', 'what to sign with in place of what is configured; private keys as base64')
    .option('--url <url>', 'where to send; default: the source on this machine, on PORT or 3000')
    .option('--count <n>', 'callbacks in all', wholeNumber(1, 1_000_000), 1)
    .option('--batch <n>', 'callbacks in a request, if the provider sends several', wholeNumber(1, 10_000), 1)
    .option('--duplicates <share>', 'how many of them repeat an earlier one, such as 20%', share, 0)
    .option('--forged <share>', 'how many of them are forged, such as 10%', share, 0)
    .option('--stale <share>', 'how many of them were signed an hour ago', share, 0)
    .option('--drop <share>', 'how many requests lose their connection during the first attempt', share, 0)
    .option('--reorder', 'shuffle the requests')
    .option('--seed <n>', 'for --reorder: the same number gives the same order', wholeNumber(0, 2 ** 31), 1)
    .option('--slow-body <ms>', 'send each body in pieces over this time', wholeNumber(0, 600_000), 0)
    .option('--wrong-content-type', 'declare JSON as a form, and a form as JSON')
    .option('--rate <n>', 'callbacks a second; default: as fast as they are answered', wholeNumber(1, 1_000_000))
    .option('--concurrency <n>', 'requests under way at once', wholeNumber(1, 1000), 1)
    .option('--no-retry', 'try each request once')
    .option('--retry-delay <ms>', 'longest pause between attempts', wholeNumber(0, 86_400_000), 1000)
    .addHelpText('after', EXPLANATION)
    .action(async (name: string, event: string, options: SendOptions, command: Command) => {
      const { plan, report } = await send(name, event, options)
      showProgress('')
      const callbacks = countCallbacks(plan)
      print(command, { callbacks, ...report }, describe(callbacks, report))
      const { givenUp, failed, undelivered } = report.requests
      if (givenUp + failed + undelivered > 0) process.exitCode = 1
    })
}

async function send(
  name: string,
  event: string,
  options: SendOptions,
): Promise<{ plan: PlannedRequest[]; report: SendReport }> {
  const config = await readConfig()
  const { sourceName, source, profile, sample, title, isDocumented } = findSender(name, event, options, config)
  if (options.batch > 1 && source.envelope === undefined) {
    throw new Error(
      `"${source.provider}" sends one callback in a request by scheme "${source.scheme}": leave out --batch`,
    )
  }
  const url = options.url ?? localUrl(sourceName, source.urlTokens, readEnvironment().PORT)
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) {
    throw new Error('--url is no URL of http or https, such as https://hooks.example.com/callbacks/source')
  }
  const making = {
    source,
    sample,
    url,
    publicBaseUrl: source.publicBaseUrl ?? config.origin.publicBaseUrl,
    secret: options.secret,
    wrongContentType: options.wrongContentType ?? false,
    now: () => new Date(),
  }
  checkSecret(sourceName, making)
  if (options.stale > 0 && !refusesStale(making)) {
    throw new Error(
      `By scheme "${source.scheme}" nothing is refused for its age, so none can be stale: leave out --stale`,
    )
  }
  const plan = planRequests({ ...options, reorder: options.reorder ?? false, provesEach: provesEach(making) })
  const report = await sendAll({
    origin: new URL(url).origin,
    requests: makeRequests(plan, making),
    delivery: options.retry ? profile.delivery : { ...profile.delivery, retryDelaysMs: [] },
    maxRetryDelayMs: options.retryDelay,
    slowBodyMs: options.slowBody,
    batch: options.batch,
    ratePerSecond: options.rate,
    concurrency: options.concurrency,
    onProgress: (done, total) => showProgress(`${done} of ${total} requests answered`),
  })
  if (!isDocumented) {
    console.error(`"${event}" is no event that ${title} documents; it was sent without data of its own`)
  }
  return { plan, report }
}

function localUrl(sourceName: string, [token]: readonly string[], port: number): string {
  const path = token === undefined ? sourceName : `${sourceName}/${encodeURIComponent(token)}`
  return `http://127.0.0.1:${port}/callbacks/${path}`
}

interface CallbackCounts {
  sent: number
  distinct: number
  duplicates: number
  forged: number
  stale: number
}

function countCallbacks(plan: PlannedRequest[]): CallbackCounts {
  const counts = { genuine: 0, duplicate: 0, forged: 0, stale: 0 }
  for (const { callbacks } of plan) for (const { kind } of callbacks) counts[kind] += 1
  const { genuine: distinct, duplicate: duplicates, forged, stale } = counts
  return { sent: distinct + duplicates + forged + stale, distinct, duplicates, forged, stale }
}

function describe(callbacks: CallbackCounts, { requests, attempts, latencyMs, seconds }: SendReport): string {
  const stale = callbacks.stale > 0 ? `, ${callbacks.stale} stale` : ''
  const givenUp = requests.givenUp > 0 ? `${requests.givenUp} given up, ` : ''
  return [
    `Sent ${callbacks.sent} callbacks: ${callbacks.distinct} distinct, ${callbacks.duplicates} duplicates, ${callbacks.forged} forged${stale}`,
    `Requests: ${requests.accepted} accepted, ${requests.refused} refused, ${givenUp}${requests.failed} failed${statuses(requests.byStatus)}`,
    ...(attempts.retries > 0 ? [`Attempts: ${attempts.total}, of them ${attempts.retries} retries`] : []),
    `Latency: p50 ${latencyMs.p50} ms, p95 ${latencyMs.p95} ms, p99 ${latencyMs.p99} ms, max ${latencyMs.max} ms; ${seconds} s in all`,
  ].join('\n')
}

function statuses(byStatus: Record<string, number>): string {
  const others = Object.entries(byStatus).filter(([status]) => status !== '200')
  return others.length > 0 ? ` (${others.map(([status, count]) => `${count} x ${status}`).join(', ')})` : ''
}
