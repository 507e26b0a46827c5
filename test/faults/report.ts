import { readFile, writeFile } from 'node:fs/promises'
import { hasFailed } from './run-cell.ts'
import type { CellResult } from './run-cell.ts'

/** One line about a cell, beginning with what must be 0. */
export function line(result: CellResult): string {
  const { name, faults, requests, answered200, timeouts, connectionErrors, logs } = result
  return [
    `${hasFailed(result) ? 'FAILED' : 'ok    '} ${name.padEnd(34)}`,
    `lost ${result.lost}, twice ${result.storedTwice}, handler runs missing ${result.handlerRunsMissing}`,
    `${faults} faults, ${requests} requests, 200: ${answered200}, refused ${refusals(result)}`,
    `time-outs ${timeouts}, connection errors ${connectionErrors}`,
    `stored ${result.distinctStored} of ${result.distinctSent}`,
    `longest refusal ${seconds(result.longestRefusalMs)}, slowest answer ${seconds(result.slowestAnswerMs)}`,
    `recovered in ${seconds(result.recoveryMs)}`,
    `runs repeated ${result.handlerRunsRepeated}, duplicates ${result.duplicatesCounted} of at least ${result.duplicatesRequired}`,
    ...(result.neverAccepted > 0 ? [`NEVER ACCEPTED ${result.neverAccepted}`] : []),
    ...(logs === undefined ? [] : [`logs in ${logs}`]),
  ].join(' | ')
}

/** A Markdown table with a row for each cell; of several rounds it has the sums of counts and the worst times. */
export function table(results: readonly CellResult[]): string {
  const columns: [title: string, text: (result: CellResult) => string | number][] = [
    ['fault : of : queue on', ({ name }) => `\`${name}\``],
    ['faults', ({ faults }) => faults],
    ['requests', ({ requests }) => requests],
    ['200', ({ answered200 }) => answered200],
    ['refused', refusals],
    ['time-outs', ({ timeouts }) => timeouts],
    ['connection errors', ({ connectionErrors }) => connectionErrors],
    ['distinct stored', ({ distinctStored }) => distinctStored],
    ['**lost**', ({ lost }) => lost],
    ['**twice**', ({ storedTwice }) => storedTwice],
    ['**runs missing**', ({ handlerRunsMissing }) => handlerRunsMissing],
    ['longest refusal', ({ longestRefusalMs }) => seconds(longestRefusalMs)],
    ['slowest answer', ({ slowestAnswerMs }) => seconds(slowestAnswerMs)],
    ['recovered in', ({ recoveryMs }) => seconds(recoveryMs)],
  ]
  const rows = [...Map.groupBy(results, ({ name }) => name).values()].map(together)
  const cells = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, text]) => String(text(row))))]
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]!.length)))
  const lines = cells.map((row) => `| ${row.map((text, index) => text.padEnd(widths[index]!)).join(' | ')} |`)
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`)
  return lines.join('\n')
}

/** Merges several rounds of one cell into one result. */
function together(rounds: CellResult[]): CellResult {
  return rounds.reduce((sum, round) => {
    const merged = { ...sum, refused: { ...sum.refused } }
    for (const [key, value] of Object.entries(round)) {
      if (typeof value !== 'number') continue
      const field = key as 'lost' | 'recoveryMs'
      merged[field] = key.endsWith('Ms') ? Math.max(sum[field], value) : sum[field] + value
    }
    for (const [status, count] of Object.entries(round.refused)) {
      merged.refused[status] = (merged.refused[status] ?? 0) + count
    }
    return merged
  })
}

function refusals({ refused }: CellResult): string {
  const texts = Object.entries(refused).map(([status, count]) => `${status}: ${count}`)
  return texts.length === 0 ? '0' : texts.join(', ')
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`
}

const BEGIN = '<!-- faults:begin -->'
const END = '<!-- faults:end -->'

/** Puts a text between the two marks in a page. @throws if one of them is missing */
export async function writeBetweenMarks(page: string, text: string): Promise<void> {
  const old = await readFile(page, 'utf8')
  const from = old.indexOf(BEGIN)
  const to = old.indexOf(END)
  if (from === -1 || to < from) throw new Error(`${page} has no "${BEGIN}" with "${END}" after it`)
  await writeFile(page, `${old.slice(0, from + BEGIN.length)}\n\n${text}\n\n${old.slice(to)}`)
}
