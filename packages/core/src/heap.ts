import { setFlagsFromString } from 'node:v8'

/** The heap may be three times what was in use after the last time. */
export const GROWING_FLAG = '--heap-growing-percent=200'

/**
 * Has V8 search all of the heap for garbage less often. It spends up to 3 % of the time on that by itself, to keep small a
 * heap that grows slowly, and as much again in its helper threads: once a second in an ingest under load. To be called
 * at the start of a process.
 */
export function collectSeldom(): void {
  setFlagsFromString(GROWING_FLAG)
}
