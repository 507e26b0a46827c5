import { types } from 'node:util'
import { z } from 'zod'
import { ALERT_KINDS, defaultAlerts } from './alerts.ts'
import { configText } from './checked-options.ts'
import type { SourceDefinition } from './config.ts'
import type { Problem } from './environment.ts'
import { PROOFS } from './filter.ts'
import type { Filter } from './filter.ts'
import { defaultBreaker } from './handlers.ts'
import type { ActionDefinition } from './handlers.ts'
import { defaultRetry, MAX_DELAY_MS } from './retry.ts'

// What a configuration file may say, and the defaults of what it leaves out.

/** A configuration with its defaults, before the environment is known. */
export type Definition = z.output<typeof definition>

/**
 * Reports the parts that have the wrong form and returns the others, so that their problems are reported in the same run.
 * Undefined if what is left cannot be read either.
 */
export function parseDefinition(loaded: unknown, problem: Problem): Definition | undefined {
  const parsed = definition.safeParse(loaded)
  if (parsed.success) return parsed.data
  const { issues } = parsed.error
  for (const { path, message } of issues) problem(`${path.join('.') || 'the default export'}: ${message}`)
  const broken = new Set(issues.map(({ path }) => path.slice(0, 2).join('.')))
  return definition.safeParse(withoutBroken(loaded, broken)).data
}

/** Leaves out the parts (`alerts`) and their entries (`sources.crm`, `handlers.0`) that are `broken`. */
function withoutBroken(loaded: unknown, broken: ReadonlySet<string>): unknown {
  const parts = Object.entries(loaded ?? {}).filter(
    ([part, value]) => part in definition.shape && value !== undefined && !broken.has(part),
  )
  return Object.fromEntries(
    parts.map(([part, value]) => {
      const sound = Object.entries(value as object).filter(([key]) => !broken.has(`${part}.${key}`))
      return [part, Array.isArray(value) ? sound.map(([, entry]) => entry) : Object.fromEntries(sound)]
    }),
  )
}

const SLUG = /^[a-z0-9][a-z0-9_-]{0,62}$/
const SLUG_TEXT = 'must be lower-case letters, digits, "-" and "_"'

const scalar = z.union([
  z.string(),
  z
    .number()
    .refine(
      (value) => !Number.isInteger(value) || Number.isSafeInteger(value),
      'an integer beyond 2^53 must be a text',
    ),
  z.boolean(),
  z.null(),
])

/** A list of `element` that is not empty: a comparison with an empty list would never match, or always. */
function someOf<Element extends z.ZodType>(element: Element): z.ZodArray<Element> {
  return z.array(element).min(1, 'must not be an empty list: name what is meant, or leave it out')
}

const OPERATORS = 'exists, not, startsWith, endsWith, contains, gt, gte, lt, lte'

const fieldCondition = z.union(
  [
    scalar,
    someOf(scalar),
    z
      .strictObject({
        exists: z.boolean().optional(),
        not: z.union([scalar, someOf(scalar)]).optional(),
        startsWith: z.string().min(1).optional(),
        endsWith: z.string().min(1).optional(),
        contains: z.string().min(1).optional(),
        gt: z.number().optional(),
        gte: z.number().optional(),
        lt: z.number().optional(),
        lte: z.number().optional(),
      })
      .refine((operators) => Object.keys(operators).length > 0, `must have one of ${OPERATORS}`),
  ],
  { error: `must be a value, a list of values, or an object of ${OPERATORS}` },
)

const patterns = z.union([z.string(), someOf(z.string())])

const proof = z.enum(PROOFS)

const filter = z.strictObject({
  source: patterns.optional(),
  type: patterns.optional(),
  account: patterns.optional(),
  verifiedBy: z
    .union([proof, someOf(proof), z.strictObject({ atLeast: proof })], {
      error: `must be one of ${PROOFS.join(', ')}, a list of them, or { atLeast: 'id' }`,
    })
    .optional(),
  fields: z
    .record(z.string().regex(/^[^.]+(\.[^.]+)*$/), fieldCondition, {
      error: ({ code }) => (code === 'invalid_key' ? 'is no path: names with dots between them' : undefined),
    })
    .optional(),
  when: z
    .custom<Filter['when']>(
      (value) => typeof value === 'function' && !types.isAsyncFunction(value),
      'must be a function that is not async: it answers at once, while events are stored',
    )
    .optional(),
})

const retry = z.strictObject({
  maxAttempts: z.int().min(1).max(1000).default(defaultRetry.maxAttempts),
  firstDelayMs: z.int().min(100).max(MAX_DELAY_MS).default(defaultRetry.firstDelayMs),
  maxDelayMs: z.int().min(100).max(MAX_DELAY_MS).default(defaultRetry.maxDelayMs),
  delaysMs: z.array(z.int().min(0).max(MAX_DELAY_MS)).min(1).optional(),
  maxAgeMs: z.int().min(1000).optional(),
  neverRetry: z.array(z.int().min(100).max(599)).default(defaultRetry.neverRetry),
})

const limits = z.strictObject({
  concurrency: z.int().min(1).max(10_000).optional(),
  perSecond: z.number().min(0.001).max(100_000).optional(),
  breaker: z
    .union([
      z.literal(false),
      z.strictObject({
        failureShare: z.number().gt(0).max(1).default(defaultBreaker.failureShare),
        minAttempts: z.int().min(1).default(defaultBreaker.minAttempts),
        windowMs: z.int().min(1000).default(defaultBreaker.windowMs),
        openMs: z.int().min(100).default(defaultBreaker.openMs),
      }),
    ])
    .optional(),
})

const alerts = z.strictObject({
  consecutiveFailures: z.int().min(1).max(1_000_000).default(defaultAlerts.consecutiveFailures),
  quietMinutes: z.int().min(1).max(1440).default(defaultAlerts.quietMinutes),
  busyPerMinute: z.number().gt(0).max(1_000_000).default(defaultAlerts.busyPerMinute),
  storeLagSeconds: z.number().min(1).max(86_400).default(defaultAlerts.storeLagSeconds),
  quarantinedIn5Minutes: z.int().min(0).max(1_000_000).default(defaultAlerts.quarantinedIn5Minutes),
  unendedCallMinutes: z.int().min(0).max(1380).default(defaultAlerts.unendedCallMinutes),
  canarySeconds: z.number().min(15).max(86_400).default(defaultAlerts.canarySeconds),
  disabled: z.array(z.enum(ALERT_KINDS)).default(defaultAlerts.disabled),
})

const definition = z.strictObject({
  sources: z.record(
    z.string().regex(SLUG),
    z.custom<SourceDefinition>(
      (value) => typeof (value as SourceDefinition | undefined)?.resolve === 'function',
      'must be made by a provider, for example voximplant({ ... })',
    ),
    { error: ({ code }) => (code === 'invalid_key' ? `${SLUG_TEXT}, for it is part of a URL` : undefined) },
  ),
  handlers: z
    .array(
      z.strictObject({
        name: z.string().regex(SLUG, `${SLUG_TEXT}, for deliveries and commands name it`),
        on: filter.default({}),
        run: z.custom<ActionDefinition>(
          (value) => typeof (value as ActionDefinition | undefined)?.resolve === 'function',
          'must be made by a function for it, such as log({ ... }), code(...) or forward({ ... })',
        ),
        retry: retry.prefault({}),
        limits: limits.optional(),
      }),
    )
    .default([]),
  trustedProxies: z.array(configText).default([]),
  alerts: alerts.prefault({}),
})
