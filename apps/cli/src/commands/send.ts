import { demoCredentials } from '@ringback/core/providers/voximplant'
import type { VoximplantCredentials } from '@ringback/core/providers/voximplant'
import type { Command } from 'commander'
import { parseEnvironment } from '@ringback/core/config'
import { z } from 'zod'
import { print, showProgress } from '../output.ts'
import { share, wholeNumber } from '../options.ts'
import { sendAll } from '../send-requests.ts'
import { voximplantBody, voximplantTypes } from '../senders/voximplant.ts'

interface SendOptions {
  url?: string
  count: number
  batch: number
  duplicates: number
  forged: number
  rate?: number
  concurrency: number
}

/** `ringback send` */
export function addSendCommand(program: Command): void {
  program
    .command('send')
    .description('play a provider: send callbacks, signed as it signs')
    .argument('<provider>', 'voximplant')
    .argument('<type>', `one of ${voximplantTypes.join(', ')}; another is sent with an empty payload`)
    .option('--url <url>', "where to; default: the provider's source on this machine, on PORT or 3000")
    .option('--count <n>', 'callbacks in all', wholeNumber(1, 1_000_000), 1)
    .option('--batch <n>', 'callbacks in a request', wholeNumber(1, 10_000), 1)
    .option('--duplicates <share>', 'how many of them repeat an earlier one, such as 20%', share, 0)
    .option('--forged <share>', 'how many of them prove nothing, such as 10%', share, 0)
    .option('--rate <n>', 'callbacks a second; default: as fast as they are answered', wholeNumber(1, 1_000_000))
    .option('--concurrency <n>', 'requests under way at once', wholeNumber(1, 1000), 1)
    .action(async (provider: string, type: string, options: SendOptions, command: Command) => {
      if (provider !== 'voximplant')
        throw new Error(`There is no sender for "${provider}"; there is one for voximplant`)
      const credentials = readCredentials()
      const plan = planIds(options)
      const report = await sendAll({
        url: options.url ?? `http://127.0.0.1:${process.env.PORT || 3000}/callbacks/voximplant`,
        bodies: requests(plan, options.batch).map(
          ({ ids, forged }) =>
            () =>
              voximplantBody(credentials, { type, ids, forged }),
        ),
        batch: options.batch,
        ratePerSecond: options.rate,
        concurrency: options.concurrency,
        onProgress: (done, total) => showProgress(`${done} of ${total} requests answered`),
      })
      showProgress('')
      const callbacks = {
        sent: options.count,
        distinct: new Set(plan.filter(({ forged }) => !forged).map(({ id }) => id)).size,
        duplicates: plan.filter(({ repeats }) => repeats).length,
        forged: plan.filter(({ forged }) => forged).length,
      }
      const { requests: answers, latencyMs, seconds } = report
      print(
        command,
        { callbacks, ...report },
        [
          `Sent ${callbacks.sent} callbacks: ${callbacks.distinct} distinct, ${callbacks.duplicates} duplicates, ${callbacks.forged} forged`,
          `Requests: ${answers.accepted} accepted, ${answers.refused} refused, ${answers.failed} failed${statuses(answers.byStatus)}`,
          `Latency: p50 ${latencyMs.p50} ms, p95 ${latencyMs.p95} ms, p99 ${latencyMs.p99} ms, max ${latencyMs.max} ms; ${seconds} s in all`,
        ].join('\n'),
      )
      if (answers.failed > 0) process.exitCode = 1
    })
}

/** Whose signature to imitate: the account that Ringback is configured for, else the public one that it starts with. */
function readCredentials(): VoximplantCredentials {
  const names = z.object({
    VOXIMPLANT_ACCOUNT_ID: z.string().default(demoCredentials.accountId),
    VOXIMPLANT_API_KEY: z.string().default(demoCredentials.apiKey),
    VOXIMPLANT_SALT: z.string().default(demoCredentials.salt),
  })
  const found = parseEnvironment(names, process.env)
  return { accountId: found.VOXIMPLANT_ACCOUNT_ID, apiKey: found.VOXIMPLANT_API_KEY, salt: found.VOXIMPLANT_SALT }
}

interface PlannedCallback {
  id: string
  repeats: boolean
  forged: boolean
}

/**
 * As many of each kind as was asked for, evenly spread. Ids are fresh, from the time in microseconds, so that runs do not
 * share any. A duplicate repeats one of the last thousand genuine callbacks; a forged one has an id of its own.
 */
function planIds({
  count,
  duplicates,
  forged,
}: Pick<SendOptions, 'count' | 'duplicates' | 'forged'>): PlannedCallback[] {
  const repeatCount = Math.min(Math.floor(count * duplicates), count - 1)
  const forgedCount = Math.min(Math.floor(count * forged), count - repeatCount)
  const genuineCount = count - repeatCount - forgedCount
  // A genuine one comes first, for there must be something to repeat.
  const kinds = [
    ...Array.from({ length: genuineCount }, (_, index) => ({ kind: 'genuine', at: index / genuineCount })),
    ...Array.from({ length: repeatCount }, (_, index) => ({ kind: 'repeat', at: (index + 1) / (repeatCount + 1) })),
    ...Array.from({ length: forgedCount }, (_, index) => ({ kind: 'forged', at: (index + 1) / (forgedCount + 1) })),
  ].toSorted((a, b) => a.at - b.at)

  let next = BigInt(Date.now()) * 1000n
  const genuine: string[] = []
  return kinds.map(({ kind }, index) => {
    const repeats = kind === 'repeat' && genuine.length > 0
    const id = repeats ? genuine.at(-1 - (index % Math.min(1000, genuine.length)))! : String((next += 1n))
    if (kind === 'genuine') genuine.push(id)
    return { id, repeats, forged: kind === 'forged' }
  })
}

function requests(plan: PlannedCallback[], batch: number): { ids: string[]; forged: Set<string> }[] {
  return Array.from({ length: Math.ceil(plan.length / batch) }, (_, index) => {
    const own = plan.slice(index * batch, (index + 1) * batch)
    return { ids: own.map(({ id }) => id), forged: new Set(own.filter(({ forged }) => forged).map(({ id }) => id)) }
  })
}

function statuses(byStatus: Record<string, number>): string {
  const others = Object.entries(byStatus).filter(([status]) => status !== '200')
  return others.length > 0 ? ` (${others.map(([status, count]) => `${count} x ${status}`).join(', ')})` : ''
}
