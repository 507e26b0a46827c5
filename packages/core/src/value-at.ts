/**
 * What `steps` lead to in `from`: names of objects' own fields, and in lists indexes from 0. Undefined where there is
 * nothing, whatever `from` is; null only where a null is there.
 */
export function valueAt(from: unknown, steps: readonly string[]): unknown {
  return steps.reduce(step, from)
}

function step(value: unknown, name: string): unknown {
  const isOwn = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
  return isOwn ? (value as Record<string, unknown>)[name] : undefined
}
