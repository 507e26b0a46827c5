import { z } from 'zod'

// How the options of sources and handlers are checked when the configuration is loaded. Node strips the types, so nothing
// else would notice a misspelt name, or a text in place of a number.

/** A text that is written in the configuration, or `env(...)`. */
export const configText = z.union([z.string(), z.strictObject({ fromEnvironment: z.string() })], {
  error: 'must be a text or env(...)',
})

/** One such text, or a list of them. */
export const configTexts = z.union([configText, z.array(configText)], {
  error: 'must be a text, env(...), or a list of these',
})

/** The name of a header (RFC 9110, token). */
export const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]+$/

/** The time limit of an attempt. The lease of its delivery is a little longer. */
export const timeoutMs = z.int().min(100).max(600_000)

/** Whether `options` fit the schema. What is wrong is reported to `problem`, in words that show no value. */
export function areValid(schema: z.ZodType, options: unknown, problem: (text: string) => void): boolean {
  const { success, error } = schema.safeParse(options)
  for (const { path, message } of error?.issues ?? []) problem(`${path.join('.') || 'the options'}: ${message}`)
  return success
}

/**
 * The options with their defaults. If they are wrong, that is reported to `problem`, and the result is made from
 * `usable`, so that the caller can go on to its other problems. Nothing is loaded then.
 */
export function checked<Schema extends z.ZodType>(
  schema: Schema,
  options: unknown,
  usable: z.input<Schema>,
  problem: (text: string) => void,
): z.output<Schema> {
  return schema.parse(areValid(schema, options, problem) ? options : usable)
}
