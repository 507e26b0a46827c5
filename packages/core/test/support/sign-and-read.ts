import { resolveConfig } from '../../src/config.ts'
import type { SourceDefinition } from '../../src/config.ts'
import type { OutgoingRequest, ProviderRequest, Reading, Sample, Source } from '../../src/providers/provider.ts'
import { fillSample } from '../../src/providers/sample.ts'

/** The source that a definition makes in this environment; undefined where it is off. */
export function sourceOf(
  definition: SourceDefinition,
  environment: Record<string, string> = { PUBLIC_BASE_URL: 'https://hooks.example.test' },
): Source | undefined {
  return resolveConfig({ sources: { source: definition } }, environment).sources.get('source')
}

/** A request for `read`, of whatever matters to a test. Header names in any case. */
export function requestOf({
  headers = {},
  body = '',
  ...rest
}: Partial<Omit<ProviderRequest, 'header' | 'body'>> & {
  headers?: Record<string, string>
  body?: string | Buffer
}): ProviderRequest {
  const byName = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  return {
    method: 'POST',
    url: 'https://hooks.example.test/callbacks/source',
    remoteAddress: '192.0.2.1',
    receivedAt: new Date('2026-01-01T00:00:00Z'),
    ...rest,
    body: Buffer.from(body),
    header: (name) => byName.get(name),
  }
}

/** What a source reads from a sample that it signed itself, as of 2026-01-01. */
export function signAndRead(
  source: Source,
  sample: Sample,
  options: { forged?: boolean; secret?: string; tamper?: (request: OutgoingRequest) => OutgoingRequest } = {},
): Reading {
  const at = new Date('2026-01-01T00:00:00Z')
  const { method, query, headers, body } = fillSample(sample, at)
  const search = new URLSearchParams(query).toString()
  const url = `https://hooks.example.test/callbacks/source${search === '' ? '' : `?${search}`}`
  const whole = source.envelope === undefined || body.length === 0 ? body : source.envelope([body])
  const signed = source.sign({ method, url, headers, body: whole }, { at, ...options })
  const sent = options.tamper?.(signed) ?? signed
  return source.read(requestOf({ ...sent, receivedAt: at }))
}
