import { resolve } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { z } from 'zod'

/** Reads an option that is a whole number between `min` and `max`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`)
  }
}

/** Reads an option that is a share: `20%` is 0.2. */
export function share(text: string): number {
  const value = Number(text.replace(/%$/, '')) / 100
  if (/^\d+(\.\d+)?%$/.test(text) && value <= 1) return value
  throw new InvalidArgumentError('It must be a percentage from 0% to 100%, such as 20%.')
}

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 }

/** Stricter than Date, which takes 5 for 1 May 2001, and 30 February for 2 March. */
const time = z.union([z.iso.date(), z.iso.datetime({ offset: true }), z.iso.datetime({ offset: true, precision: -1 })])

/** Reads an option that is a time, a day (its beginning, UTC), or an age: `15m` is a quarter of an hour ago. */
export function timeOrAge(text: string): Date {
  const age = /^(\d+)([smhdw])$/.exec(text)
  const found = new Date(age === null ? text : Date.now() - Number(age[1]) * UNIT_MS[age[2] as keyof typeof UNIT_MS])
  const year = found.getUTCFullYear()
  // Postgres reads no other years as they are written here.
  if ((age !== null || time.safeParse(text).success) && year >= 1 && year <= 9999) return found
  throw new InvalidArgumentError(
    'It must be a time, such as 2026-01-31T12:00Z, a day, such as 2026-01-31, or an age, such as 15m.',
  )
}

/** Makes the function that reads an id; `listedBy` is the command that prints such ids. */
export function idFrom(listedBy: string): (text: string) => string {
  return (text) => {
    if (z.uuid().safeParse(text).success) return text
    throw new Error(`"${text}" is no id: ids are those that "ringback ${listedBy}" prints`)
  }
}

/**
 * Reads an option that is a file to write, or "-". A relative path begins in the user's folder, also under `npm run`, which
 * starts everything in the project's folder.
 */
export function outputFile(text: string): string {
  if (text === '-') return text
  if (text.endsWith('/')) throw new InvalidArgumentError('It must be a file, not a folder.')
  return resolve(process.env.INIT_CWD ?? '', text)
}

/** A pattern in which `*` stands for any characters, for SQL's `like`. */
export function likePattern(type: string): string {
  return type.replaceAll(/[\\%_]/g, String.raw`\$&`).replaceAll('*', '%')
}
