import { hash } from 'node:crypto'
import type { PreviousName } from './provider.ts'

const MAX_LENGTH = 512
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const PRINTABLE = /^[^\u0000-\u001f\u007f]+$/

/**
 * A name made of several fields: percent-escaped and joined by ":". Fields that are undefined are left out; without the
 * first one there is no name. A name that would be too long keeps its beginning and ends in its hash.
 */
export function composeCallbackId(first: string | undefined, ...rest: (string | undefined)[]): string | undefined {
  if (first === undefined) return undefined
  const name = [first, ...rest]
    .filter((part) => part !== undefined)
    .map((part) => encodeURIComponent(part.toWellFormed()))
    .join(':')
  return name.length <= MAX_LENGTH ? name : shortened(name)
}

/** No fields can make a name that ends like this: a "=" in them would be escaped. */
function shortened(name: string): string {
  const end = `:sha256=${hash('sha256', name)}`
  return name.slice(0, MAX_LENGTH - end.length) + end
}

/** Whether a text can be a name: of printable characters, and short enough to be indexed. */
export function isCallbackId(text: string): boolean {
  return text.length <= MAX_LENGTH && text.isWellFormed() && PRINTABLE.test(text)
}

/** Ten minutes: quick repetitions come sooner than that, and the same thing happens again later than that. */
const BODY_WINDOW_SECONDS = 600

/** The name of a callback that only its bytes name: their hash and the window of time. */
export function nameByBytes(bytes: Buffer, receivedAt: Date): { callbackId: string; previousName: PreviousName } {
  const bodyHash = hash('sha256', bytes)
  const window = Math.floor(receivedAt.getTime() / 1000 / BODY_WINDOW_SECONDS)
  return {
    callbackId: `body:${bodyHash}:${window}`,
    previousName: { callbackId: `body:${bodyHash}:${window - 1}`, windowSeconds: BODY_WINDOW_SECONDS },
  }
}
