import { InvalidArgumentError } from 'commander'

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
  if (/^\d+(\.\d+)?%?$/.test(text) && value <= 1) return value
  throw new InvalidArgumentError('It must be a percentage from 0% to 100%.')
}

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Reads an option that is a time, or an age: `15m` is a quarter of an hour ago. */
export function timeOrAge(text: string): Date {
  const age = /^(\d+)([smhd])$/.exec(text)
  const time =
    age === null ? new Date(text) : new Date(Date.now() - Number(age[1]) * UNIT_MS[age[2] as keyof typeof UNIT_MS])
  if (!Number.isNaN(time.getTime())) return time
  throw new InvalidArgumentError('It must be a time, such as 2026-01-31T12:00Z, or an age, such as 15m.')
}

/** A pattern in which `*` stands for any characters, for SQL's `like`. */
export function likePattern(type: string): string {
  return type.replaceAll(/[\\%_]/g, String.raw`\$&`).replaceAll('*', '%')
}
