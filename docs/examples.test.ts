import { readFileSync } from 'node:fs'
import { queuedCallback } from '@ringback/core/callback'
import type { QueuedCallback } from '@ringback/core/callback'
import { env } from '@ringback/core/config'
import { createMatch, OWN_SOURCE } from '@ringback/core/filter'
import type { Filter } from '@ringback/core/filter'
import * as actions from '@ringback/core/handlers'
import { parsePayload } from '@ringback/core/parse-payload'
import { valueAt } from '@ringback/core/value-at'
import { expect, test } from 'vitest'
import { everySource, sampleRequest, samplesOf } from '../test/support/every-source.ts'

// The handlers that the pages show. Whoever pastes one gets what it says: it acts on what its provider sends, and whatever
// its texts and conditions name is there.

const examples = ['handlers.md', 'routing.md'].flatMap((page) => {
  const text = readFileSync(new URL(page, import.meta.url), 'utf8')
  const inUrls = [...text.matchAll(/`(https:[^`]*\(\([^`]*)`/g)].map(([, url]) => `{ name: 'get', url: '${url}' }`)
  return [...[...text.matchAll(/^```ts\n(\{\s*name:.*?)^```/gms)].map(([, handler]) => handler!), ...inUrls]
})
const ofProviders = examples.map((text) => ({ text, ...handlerIn(text) })).filter(({ on }) => on?.source !== OWN_SOURCE)
const events = sampleEvents()

test.each(ofProviders)(
  'the handler "$name" of the pages acts on an event that has all it names',
  ({ text, name, on }) => {
    // What the fields hold is up to the sender, and what the clock says too.
    const fields = Object.fromEntries(Object.keys(on?.fields ?? {}).map((path) => [path, { exists: true }]))
    const match = createMatch([{ name, on: { ...on, fields, when: undefined } }], () => {})
    const acts = events.filter(({ callback }) => match(callback).length > 0)
    const tokens = [...text.matchAll(/\(\((\w[\w.]*)\)\)/g)].map(([, path]) => path!)
    const found = acts.filter((event) =>
      tokens.every((token) =>
        [event.payload, event.callback, event].some((from) => valueAt(from, token.split('.')) !== undefined),
      ),
    )
    expect(found).not.toEqual([])
  },
)

function handlerIn(example: string): { name: string; on?: Filter } {
  const complete = example
    .replaceAll(/run: (?:forward\(\{ \.\.\. \}\)|\.\.\.)/g, 'run: undefined')
    .replaceAll('{ ... }', '{}')
  const scope = { ...actions, env }
  // oxlint-disable-next-line typescript/no-implied-eval -- the text is that of our own pages
  return new Function(...Object.keys(scope), `return (${complete})`)(...Object.values(scope))
}

/** What ingest hands over for each sample of each provider, from a source with the provider's name. */
function sampleEvents(): { callback: QueuedCallback; payload: unknown; details: unknown }[] {
  const config = everySource()
  const presets = [...config.sources].filter(([, { provider }]) => provider !== 'generic')
  return presets.flatMap(([preset, source]) =>
    Object.values(samplesOf(source)).flatMap((sample) => {
      const { headers, ...request } = sampleRequest(config, preset, sample)
      const header = (name: string) =>
        headers[Object.keys(headers).find((key) => key.toLowerCase() === name.toLowerCase()) ?? '']
      const reading = source.read({ ...request, header, remoteAddress: undefined, receivedAt: new Date() })
      const callbacks = reading.kind === 'read' ? reading.callbacks : []
      return callbacks.flatMap((genuine) => {
        if (genuine.kind !== 'genuine') return []
        const callback = queuedCallback(genuine, { source: source.provider, method: 'POST', url: '/', headers: {} })
        const payload = parsePayload(callback.payload ?? genuine.raw.toString())
        return [{ callback, payload, details: source.details(callback.type, payload) }]
      })
    }),
  )
}
