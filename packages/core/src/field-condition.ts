import { valueAt } from './value-at.ts'

// Conditions on the fields of a payload: pure, and never throwing, whatever the payload is.

export type Scalar = string | number | boolean | null

/** What a field must be: equal to a value, equal to one of a list, or as every given operator says. */
export type FieldCondition = Scalar | Scalar[] | FieldOperators

export interface FieldOperators {
  /** Whether the field is there, be it null. */
  exists?: boolean | undefined
  /** Not equal to the value, or to any of the list; a field that is not there is equal to none. */
  not?: Scalar | Scalar[] | undefined
  startsWith?: string | undefined
  endsWith?: string | undefined
  /** The text has this part, or the list this element. */
  contains?: string | undefined
  gt?: number | undefined
  gte?: number | undefined
  lt?: number | undefined
  lte?: number | undefined
}

/** Compiles a condition on the field at `path`: names with dots between them; the step into a list is an index from 0. */
export function fieldTest(path: string, condition: FieldCondition): (payload: unknown) => boolean {
  const steps = path.split('.')
  return (payload) => isMet(condition, valueAt(payload, steps))
}

function isMet(condition: FieldCondition, value: unknown): boolean {
  if (typeof condition !== 'object' || condition === null || Array.isArray(condition)) return isAmong(condition, value)
  const { exists, not, startsWith, endsWith, contains, gt, gte, lt, lte } = condition
  const text = textOf(value)
  const number = numberOf(value) // NaN where it is none, which is neither more nor less than anything
  return (
    (exists === undefined || exists === (value !== undefined)) &&
    (not === undefined || !isAmong(not, value)) &&
    (startsWith === undefined || text?.startsWith(startsWith) === true) &&
    (endsWith === undefined || text?.endsWith(endsWith) === true) &&
    (contains === undefined || hasPart(value, contains)) &&
    (gt === undefined || number > gt) &&
    (gte === undefined || number >= gte) &&
    (lt === undefined || number < lt) &&
    (lte === undefined || number <= lte)
  )
}

function isAmong(expected: Scalar | Scalar[], value: unknown): boolean {
  return [expected].flat().some((one) => isEqual(one, value))
}

/**
 * A text also equals a number that is written the same way: handlers see an id of 19 digits as a text, and a shorter one as
 * a number. A number also equals a text of the same number, because forms know only texts.
 */
function isEqual(expected: Scalar, value: unknown): boolean {
  if (typeof expected === 'string') return textOf(value) === expected
  if (typeof expected === 'number') return numberOf(value) === expected
  return value === expected
}

function hasPart(value: unknown, part: string): boolean {
  if (Array.isArray(value)) return value.some((element) => isEqual(part, element))
  return textOf(value)?.includes(part) === true
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined
}

/** Decimal only: Number() would also take '', ' 1' and '0x1'. */
const DECIMAL = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/

function numberOf(value: unknown): number {
  if (typeof value === 'number') return value
  return typeof value === 'string' && DECIMAL.test(value) ? Number(value) : NaN
}
