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
