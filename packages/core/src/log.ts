import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'

export type { Logger } from 'pino'

/** How much of the log is kept in memory while nobody reads it. Further lines are dropped. */
const MAX_UNREAD_BYTES = 16 * 1024 * 1024

/** Fields that no line shows. */
const HIDDEN = ['headers', 'body', 'raw', 'payload', 'apiKey', 'salt', 'password', 'token']
/** How many levels of a field are searched for them; what lies deeper is not shown. */
const DEPTH = 4

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
      redact: HIDDEN,
      // pino's own redaction looks only one level deep into fields, and makes a line cost four times as much.
      formatters: { log: shown },
      serializers: { err: (error: unknown) => error }, // by then it is serialized
    },
    destination ?? standardOutput(),
  )
}

const ignore = () => true

/** What a write says once the terminal is closed, or the reader of the pipe has gone. */
const NOBODY_READS = ['EIO', 'EPIPE']

/**
 * No write that fails ends the process. Lines that a full disk does not take wait for the next line, as they do for a slow
 * reader; once nobody can read them any more, there are none.
 */
function standardOutput(): DestinationStream {
  const stream = pino.destination({ dest: 1, maxLength: MAX_UNREAD_BYTES })
  const flushSync = stream.flushSync.bind(stream)
  stream.on('error', ({ code = '' }: NodeJS.ErrnoException) => {
    // With flushSync as it is, a process that exits would try for ever to write the rest.
    stream.flushSync = ignore
    if (NOBODY_READS.includes(code)) Object.assign(stream, { write: ignore, end: ignore, destroy: ignore })
  })
  stream.on('write', () => (stream.flushSync = flushSync))
  return stream
}

/** An object or a list: what may hold hidden fields within it. */
function isNested(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** The fields without what is hidden inside them; pino itself redacts by the fields' own names. Never throws. */
function shown(fields: Record<string, unknown>): Record<string, unknown> {
  try {
    if (!Object.values(fields).some(isNested)) return fields
    return mapFields(fields, (value) => withoutHidden(value, DEPTH))
  } catch (error) {
    // A getter may throw.
    return { unreadable: error instanceof Error ? error.message : 'a field threw' }
  }
}

function withoutHidden(value: unknown, depth: number): unknown {
  if (!isNested(value)) return value
  if ('toJSON' in value) return value
  if (depth === 0) return Array.isArray(value) ? '[Array]' : '[Object]'
  if (value instanceof Error) return withoutHidden(pino.stdSerializers.err(value), depth)
  if (Array.isArray(value)) return value.map((item) => withoutHidden(item, depth - 1))
  return mapFields(value, (field, name) => (HIDDEN.includes(name) ? '[Redacted]' : withoutHidden(field, depth - 1)))
}

function mapFields(fields: object, map: (value: unknown, name: string) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, map(value, name)]))
}
