/**
 * What `steps` lead to in `from`: each is the name of an object's own field, or an index into a list, from 0. Undefined if
 * there is nothing, whatever `from` is; null only if a null is there.
 */
export function valueAt(from: unknown, steps: readonly string[]): unknown {
  return steps.reduce(step, from)
}

function step(value: unknown, name: string): unknown {
  const isOwn = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
  return isOwn ? (value as Record<string, unknown>)[name] : undefined
}
