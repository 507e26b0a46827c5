/** The middle of `values`, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  return (quantile(values, 0.5) + quantile(values, 0.5, Math.ceil)) / 2
}

/** The value below which a share `q` of the `values` lies. */
export function quantile(values: readonly number[], q: number, round = Math.floor): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[round(q * (sorted.length - 1))]!
}

/** `median (least to greatest)`, each written by `format`. */
export function medianAndSpread(values: readonly number[], format: (value: number) => string): string {
  return `${format(median(values))} (${format(Math.min(...values))} to ${format(Math.max(...values))})`
}
