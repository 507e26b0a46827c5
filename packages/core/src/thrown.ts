import { inspect } from 'node:util'

// What a user's function has thrown may be anything: even to look at it may throw.

const UNSHOWABLE = 'a value that cannot be shown'

/** The message of an error; anything else as text. Never throws. */
export function messageOf(thrown: unknown): string {
  try {
    return textOf(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return UNSHOWABLE
  }
}

/** How many causes of an error are told of: the last may have the first as its cause. */
const MAX_CAUSES = 4

/** The messages of an error and of what caused it, because a failed fetch says why only in its cause. Never throws. */
export function messagesOf(thrown: unknown): string {
  const messages = [messageOf(thrown)]
  try {
    let { cause } = thrown as Error
    while (cause instanceof Error && messages.length <= MAX_CAUSES) {
      // Where none of several addresses answers, there is a code and no message.
      messages.push(messageOf(cause) || textOf((cause as NodeJS.ErrnoException).code ?? cause.name))
      cause = cause.cause
    }
  } catch {
    // What is known so far has to do.
  }
  return messages.join(': ')
}

/** Whatever a user's function threw, or put into its error, as text. Never throws. */
export function textOf(value: unknown): string {
  try {
    return typeof value === 'string' ? value : inspect(value)
  } catch {
    return UNSHOWABLE
  }
}

/** How much of a stack is logged. */
const MAX_FRAMES = 5
const MAX_FRAME_LENGTH = 300

/** The first frames of an error's stack, without its message, which may be long. Never throws. */
export function framesOf(error: unknown): string | undefined {
  try {
    const frames = (error as Error).stack?.split('\n').filter((line) => /^ +at /.test(line))
    const first = frames?.slice(0, MAX_FRAMES).map((frame) => frame.trim().slice(0, MAX_FRAME_LENGTH))
    return first?.join('\n') || undefined
  } catch {
    return undefined
  }
}
