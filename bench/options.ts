import { parseArgs } from 'node:util'

export interface Options {
  /** How often each design is measured; the designs take turns. */
  rounds: number
  /** Load in each run, after a warm-up of its own. */
  seconds: number
  connections: number
  /** Into docs/performance.md. */
  write: boolean
}

/** @throws with a message for whoever typed the command */
export function parseOptions(argv: string[]): Options {
  const { values } = parseArgs({
    args: argv,
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      connections: { type: 'string', default: '64' },
      write: { type: 'boolean', default: false },
    },
  })
  const count = (name: 'rounds' | 'seconds' | 'connections') => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number, at least 1`)
    return value
  }
  return { rounds: count('rounds'), seconds: count('seconds'), connections: count('connections'), write: values.write }
}
