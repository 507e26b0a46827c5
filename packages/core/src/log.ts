import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'

export type { Logger } from 'pino'

/**
 * A JSON logger on standard output. Messages are `noun.verb`, ids are fields, durations carry their unit. Bodies, headers
 * and secrets stay out of log calls; the redaction is the net under that habit.
 */
export function createLogger(app: string, level: string, destination?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: { app, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: [
        'headers',
        'body',
        'raw',
        'payload',
        '*.headers',
        '*.body',
        '*.raw',
        '*.payload',
        '*.apiKey',
        '*.salt',
        '*.password',
        '*.token',
      ],
    },
    destination ?? gatheredOutput(),
  )
}

const GATHER_MS = 20
const MAX_GATHERED_BYTES = 8 * 1024
/** Of lines that nobody reads: what comes beyond them is dropped. */
const MAX_UNREAD_BYTES = 16 * 1024 * 1024

/** Standard output, some lines at a time: each write goes to another thread and back, so that a slow reader blocks nothing. */
function gatheredOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, minLength: MAX_GATHERED_BYTES, maxLength: MAX_UNREAD_BYTES })
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    timer = undefined
    output.flush()
  }
  return {
    write(line) {
      output.write(line)
      // Not waited for: what is left when the process ends, pino writes then.
      timer ??= setTimeout(flush, GATHER_MS).unref()
    },
  }
}
