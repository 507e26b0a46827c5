import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'

export type { Logger } from 'pino'

/** Of lines that nobody reads: what comes beyond them is dropped. */
const MAX_UNREAD_BYTES = 16 * 1024 * 1024

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
    destination ?? pino.destination({ dest: 1, maxLength: MAX_UNREAD_BYTES }),
  )
}
