/** Which events something concerns. Every part that is given must match; a list matches if one of its entries does. */
export interface Filter {
  source?: string | string[] | undefined
  /** `*` stands for any characters: `sms_*`. */
  type?: string | string[] | undefined
  account?: string | string[] | undefined
}

/** What a filter looks at. */
export interface Filterable {
  source: string
  accountId: string
  type: string
}

/** Compiles `filter` into a test. An empty filter matches everything. */
export function matcher(filter: Filter): (event: Filterable) => boolean {
  const source = oneOf(filter.source)
  const type = oneOf(filter.type)
  const account = oneOf(filter.account)
  return (event) => source(event.source) && type(event.type) && account(event.accountId)
}

/** Compiles handlers into a function that gives, for a callback, its id with the name of each handler that is to act on it. */
export function createMatch(
  handlers: readonly { name: string; on: Filter }[],
): (callback: Filterable & { id: string }) => [id: string, handler: string][] {
  const matchers = handlers.map(({ name, on }) => ({ name, matches: matcher(on) }))
  return (callback) => matchers.filter(({ matches }) => matches(callback)).map(({ name }) => [callback.id, name])
}

function oneOf(patterns: string | string[] | undefined): (value: string) => boolean {
  if (patterns === undefined) return () => true
  const tests = [patterns].flat().map((pattern) => {
    if (!pattern.includes('*')) return (value: string) => value === pattern
    const literal = pattern.split('*').map((part) => RegExp.escape(part))
    const expression = new RegExp(`^${literal.join('.*')}$`, 's')
    return (value: string) => expression.test(value)
  })
  return (value) => tests.some((test) => test(value))
}
