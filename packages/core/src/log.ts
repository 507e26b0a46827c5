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
    destination ?? pino.destination(1),
  )
}
