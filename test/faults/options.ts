import { parseArgs } from 'node:util'

export interface Options {
  seed: string
  /** How often each cell is run. */
  rounds: number
  /** Patterns of the cells to run; without any, all cells are run. */
  only: string[]
  /** For how long faults are started in each cell. */
  seconds: number
  /** Requests a second. */
  rate: number
  /** Seconds without progress after which what is missing counts as lost. */
  patience: number
  /** Whether to print one JSON object a line instead of text. */
  json: boolean
  /** Whether to write the table into docs/faults.md. */
  write: boolean
  /** Whether to list the cells and do nothing. */
  list: boolean
}

/** @throws with a message for whoever typed the command */
export function parseOptions(argv: string[]): Options {
  const { values } = parseArgs({
    args: argv,
    options: {
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      rounds: { type: 'string', default: '1' },
      only: { type: 'string', multiple: true, default: [] },
      seconds: { type: 'string', default: '20' },
      rate: { type: 'string', default: '200' },
      patience: { type: 'string', default: '60' },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  })
  const { seed, json, write, list } = values
  return {
    seed,
    rounds: wholeNumber('rounds', values.rounds),
    only: values.only.flatMap((text) => text.split(',')),
    seconds: wholeNumber('seconds', values.seconds),
    rate: wholeNumber('rate', values.rate),
    patience: wholeNumber('patience', values.patience),
    json,
    write,
    list,
  }
}

/** @throws with a message for whoever typed the command */
export function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number, at least 1`)
  return value
}
