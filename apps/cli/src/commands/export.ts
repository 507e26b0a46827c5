import { Option } from 'commander'
import type { Command } from 'commander'
import type { Sql } from '@ringback/core/store/connect'
import { withSql } from '../environment.ts'
import { COLUMNS, RAW } from '../export/columns.ts'
import type { Column } from '../export/columns.ts'
import { csvEncoder, ndjsonEncoder } from '../export/encode-text.ts'
import type { Encoder } from '../export/encode-text.ts'
import { fileOutput, standardOutput } from '../export/output.ts'
import type { Output } from '../export/output.ts'
import { readEvents } from '../export/read-events.ts'
import type { EventRange } from '../export/read-events.ts'
import { outputFile, timeOrAge } from '../options.ts'
import { showProgress, wantsJson } from '../output.ts'

const FORMATS = ['csv', 'parquet', 'ndjson'] as const

interface ExportOptions extends Omit<EventRange, 'until'> {
  until?: Date
  format: (typeof FORMATS)[number]
  out: string
  raw?: boolean
  spreadsheet?: boolean
}

/** `ringback export` */
export function addExportCommand(program: Command): void {
  program
    .command('export')
    .description('write the events of a period to a file, in the order of receipt')
    .requiredOption('--since <time>', 'events received since a time, or an age such as 2h, 7d', timeOrAge)
    .option('--until <time>', 'events received before a time or an age; default: now', timeOrAge)
    .option('--source <name>')
    .option('--type <type>', '"*" stands for any characters')
    .option('--account <id>')
    .option('--call-id <id>', "the provider's id of a call")
    .addOption(new Option('--format <format>').choices(FORMATS).makeOptionMandatory())
    .requiredOption('--out <file>', 'a file, replaced if it exists; "-" is standard output', outputFile)
    .option('--raw', "add the callbacks' own bytes: as they are in Parquet, base64 otherwise")
    .option('--spreadsheet', 'CSV that is safe to open in a spreadsheet, which might run a text as a formula')
    .action(async (options: ExportOptions, self: Command) => {
      const { until = new Date(), spreadsheet = false, format, out } = options
      if (options.since >= until) throw new Error('There is no time between --since and --until')
      if (spreadsheet && format !== 'csv') throw new Error('--spreadsheet goes with --format csv')
      const summary = await withSql((sql) => exportEvents(sql, { ...options, until }))
      const text = `${summary.events} events, ${summary.bytes} bytes${out === '-' ? '' : ` in ${out}`}`
      // Nothing but the export may go to standard output.
      const say = out === '-' ? console.error : console.log
      say(wantsJson(self) ? JSON.stringify(summary) : text)
    })
}

interface Summary {
  events: number
  bytes: number
  format: string
  file: string
  since: Date
  until: Date
}

async function exportEvents(sql: Sql, options: ExportOptions & EventRange): Promise<Summary> {
  const { format, out, since, until } = options
  const columns = options.raw ? [...COLUMNS, RAW] : COLUMNS
  const encoder = await createEncoder(options, columns)
  const output = out === '-' ? standardOutput() : await fileOutput(out)
  try {
    const { events, bytes } = await copy(readEvents(sql, options, columns), encoder, output)
    await output.finish()
    return { events, bytes, format, file: out, since, until }
  } catch (error) {
    await output.discard()
    throw error
  } finally {
    showProgress('')
  }
}

async function createEncoder(
  { format, spreadsheet = false }: ExportOptions,
  columns: readonly Column[],
): Promise<Encoder> {
  if (format === 'csv') return csvEncoder(columns, { forSpreadsheet: spreadsheet })
  if (format === 'ndjson') return ndjsonEncoder(columns)
  // Loaded only when needed: otherwise every command would wait for it.
  const { parquetEncoder } = await import('../export/encode-parquet.ts')
  return parquetEncoder(columns)
}

async function copy(
  pages: ReturnType<typeof readEvents>,
  encoder: Encoder,
  output: Output,
): Promise<{ events: number; bytes: number }> {
  let events = 0
  let bytes = 0
  const write = async (piece: Uint8Array) => {
    if (piece.length === 0) return
    bytes += piece.length
    await output.write(piece)
  }
  for await (const page of pages) {
    events += page.length
    await write(encoder.page(page))
    showProgress(`${events} events, up to ${page.at(-1)!.received_at}`)
  }
  await write(encoder.end())
  return { events, bytes }
}
