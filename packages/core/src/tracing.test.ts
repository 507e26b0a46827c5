import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterEach, expect, test, vi } from 'vitest'
import { createLogger } from './log.ts'
import { startTracing } from './tracing.ts'

const run = promisify(execFile)
const log = createLogger('test', 'silent')
/** Nobody listens there, and nothing is sent. */
const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }

afterEach(() => vi.unstubAllEnvs())

function stub(variables: Record<string, string>): void {
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value)
}

/** What a process that starts tracing with these variables loads of OpenTelemetry. */
async function loaded(variables: Record<string, string>): Promise<string[]> {
  const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({
      load(url, context, next) {
        if (url.includes('opentelemetry')) loaded.push(url)
        return next(url, context)
      },
    })
    const { startTracing } = await import(${JSON.stringify(new URL('tracing.ts', import.meta.url).href)})
    const tracing = await startTracing('test', { info() {}, warn() {} })
    console.log(JSON.stringify({ isOn: tracing !== undefined, loaded }))
    await tracing?.close()`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env.PATH, ...variables },
  })
  const result = JSON.parse(stdout) as { isOn: boolean; loaded: string[] }
  expect(result.isOn).toBe(result.loaded.length > 0)
  return result.loaded
}

test('nothing of OpenTelemetry is loaded unless OTEL_* names an endpoint', async () => {
  expect(await loaded({})).toEqual([])
  expect(await loaded({ ...endpoint, OTEL_SDK_DISABLED: 'true' })).toEqual([])
  expect(await loaded({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' })).toEqual([])
  expect(await loaded(endpoint)).not.toEqual([])
  expect(await loaded({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:9/v1/traces' })).not.toEqual([])
})

const sampled = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

test.each([
  ['parentbased_always_on', sampled, /^00-4bf92f3577b34da6a3ce929d0e0e4736-[\da-f]{16}-01$/],
  ['parentbased_always_off', sampled, /^00-4bf9.*-01$/],
  ['parentbased_always_off', undefined, /-00$/],
  ['always_off', sampled, /-00$/],
  ['always_on', sampled.replace(/01$/, '00'), /^00-4bf9.*-01$/],
  ['parentbased_always_on', sampled.replace('4bf9', '4BF9'), /^00-(?!4bf92f)[\da-f]{32}-[\da-f]{16}-01$/],
  ['parentbased_always_on', '00-00000000000000000000000000000000-00f067aa0ba902b7-01', /^00-(?!0{32})[\da-f]{32}-/],
])('with %s a request with the traceparent %s gets its span', async (sampler, incoming, expected) => {
  stub({ ...endpoint, OTEL_TRACES_SAMPLER: sampler })
  const tracing = (await startTracing('test', log))!
  expect(tracing.receive(incoming).traceparent).toMatch(expected)
  await tracing.close()
})

test.each([
  [{ OTEL_TRACES_SAMPLER: 'half' }, /OTEL_TRACES_SAMPLER is "half": set it to one of always_on, /],
  [{ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '50%' }, /OTEL_TRACES_SAMPLER_ARG is "50%"/],
  [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, /over HTTP/],
])('%j is refused with what to set instead', async (variables, message) => {
  stub({ ...endpoint, ...variables })
  await expect(startTracing('test', log)).rejects.toThrow(message)
})

/** A collector that does with a request what `answer` says. */
async function startCollector(answer: RequestListener) {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  stub({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

test('a collector that never answers holds up the end for 3 s at most', async () => {
  await using _collector = await startCollector(() => {})
  const tracing = (await startTracing('test', log))!
  tracing.receive(undefined).end({})
  const startedAt = performance.now()
  await tracing.close()
  expect(performance.now() - startedAt).toBeLessThan(4000)
})

test('a collector that refuses what it is sent is complained of in the log', async () => {
  await using _collector = await startCollector((_request, response) => response.writeHead(400).end())
  const warn = vi.spyOn(log, 'warn')
  const tracing = (await startTracing('test', log))!
  tracing.receive(undefined).end({})
  await tracing.close()
  expect(warn.mock.calls).toEqual([[{ error: expect.stringContaining('Bad Request') }, 'tracing.failed']])
})
