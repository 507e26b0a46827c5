import { setFlagsFromString } from 'node:v8'

/** The heap may grow to three times what was in use after one full collection before the next one begins. */
export const GROWING_FLAG = '--heap-growing-percent=200'

/**
 * Makes V8 collect garbage from the whole heap less often. Call it at the start of a process. By default V8 spends up to 3 %
 * of the time on that (`kTargetMutatorUtilization` in its heap controller), and as much again in helper threads, to keep a
 * slowly growing heap small. An ingest under load would do so once a second.
 */
export function collectSeldom(): void {
  setFlagsFromString(GROWING_FLAG)
}
