import { setFlagsFromString } from 'node:v8'

/** Before all of it is searched again, the heap may become three times what was in use after the last time. */
export const GROWING_FLAG = '--heap-growing-percent=200'

/**
 * Has V8 search all of the heap for garbage less often, to be called at the start of a process. By itself it bears up to
 * 3 % of the time for that (`kTargetMutatorUtilization` in V8's heap controller), to keep small a heap that grows slowly:
 * once a second in an ingest under load, and helper threads take as long again.
 */
export function collectSeldom(): void {
  setFlagsFromString(GROWING_FLAG)
}
