import type { Context, Link, SpanContext, SpanKind } from '@opentelemetry/api'
import type * as Sdk from '@opentelemetry/sdk-trace'
import type { Logger } from './log.ts'
import { createThrottle } from './throttle.ts'
import { withTimeout } from './with-timeout.ts'

// OpenTelemetry traces, from the request to the attempts. Only this file uses OpenTelemetry, and it loads it only if tracing
// is on. Everything else gets a Tracing, or undefined.

/** A span that has begun. */
export interface TracedSpan {
  /** Its name for others, as a W3C `traceparent`. */
  traceparent: string
  end: (attributes: Readonly<Record<string, string | number | undefined>>, options?: { failed: boolean }) => void
}

/** What is traced. */
export interface Tracing {
  /** A request, within the trace that its `traceparent` header names, if it names one. */
  receive: (traceparent: string | undefined) => TracedSpan
  /** The storing of a group, linked to the requests whose callbacks it holds: the first 128 of them. */
  store: (traceparents: Iterable<string | undefined>) => TracedSpan
  /** One attempt, within the trace of the request that the event came with, and linked to it. */
  attempt: (traceparent: string | null) => TracedSpan
  /** Sends what is left, for at most 3 s. Never throws. */
  close: () => Promise<void>
}

const MAX_LINKS = 128
const CLOSE_TIMEOUT_MS = 3000
/** How often failures are logged: a collector that is down fails every batch. */
const COMPLAINT_INTERVAL_MS = 60_000

/**
 * Begins to send traces as OTLP over HTTP (JSON), as the OTEL_* variables of the process say. Undefined, and nothing is
 * loaded, unless they name an endpoint. OTEL_SERVICE_NAME replaces `serviceName`. Throws if a variable asks for something
 * that is not supported.
 */
export async function startTracing(serviceName: string, log: Logger): Promise<Tracing | undefined> {
  const { env } = process
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT
  const isOff = env.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || env.OTEL_TRACES_EXPORTER === 'none'
  if (!endpoint || isOff) return undefined
  assertHttp(env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL)

  const [api, sdk, { OTLPTraceExporter }, resources] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  const complain = createComplain(log)
  const diagnostics = { error: complain, warn: complain, info: ignore, debug: ignore, verbose: ignore }
  api.diag.setLogger(diagnostics, { logLevel: api.DiagLogLevel.WARN, suppressOverrideMessage: true })
  const provider = new sdk.TracerProvider({
    sampler: samplerOf(sdk, env.OTEL_TRACES_SAMPLER, env.OTEL_TRACES_SAMPLER_ARG),
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes({ 'service.name': serviceName }))
      .merge(resources.detectResources({ detectors: [resources.envDetector] })),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  })
  const tracer = provider.getTracer('ringback')
  log.info({ service: env.OTEL_SERVICE_NAME || serviceName }, 'tracing.started')

  function begin(name: string, kind: SpanKind, { parent, links }: { parent?: Context; links?: Link[] }): TracedSpan {
    const span = tracer.startSpan(name, { kind, ...(links && { links }) }, parent ?? api.ROOT_CONTEXT)
    return {
      traceparent: traceparentOf(span.spanContext()),
      end(attributes, { failed } = { failed: false }) {
        span.setAttributes(attributes)
        if (failed) span.setStatus({ code: api.SpanStatusCode.ERROR })
        span.end()
      },
    }
  }

  /** Below the span that `traceparent` names. */
  const below = (context: SpanContext | undefined) =>
    context === undefined ? {} : { parent: api.trace.setSpanContext(api.ROOT_CONTEXT, context) }

  return {
    receive: (traceparent) => begin('callback.receive', api.SpanKind.SERVER, below(parseTraceparent(traceparent))),
    store: (traceparents) => begin('group.store', api.SpanKind.CONSUMER, { links: linksTo(traceparents) }),
    attempt(traceparent) {
      const context = parseTraceparent(traceparent ?? undefined)
      return begin('delivery.attempt', api.SpanKind.CLIENT, {
        ...below(context),
        ...(context !== undefined && { links: [{ context }] }),
      })
    },
    close: () =>
      withTimeout(provider.shutdown(), CLOSE_TIMEOUT_MS, `not all was sent within ${CLOSE_TIMEOUT_MS} ms`).catch(
        (error: unknown) => complain(String(error)),
      ),
  }
}

/** Each request once, in the order in which their callbacks come. */
function linksTo(traceparents: Iterable<string | undefined>): Link[] {
  const links: Link[] = []
  for (const traceparent of new Set(traceparents)) {
    const context = parseTraceparent(traceparent)
    if (context !== undefined) links.push({ context })
    if (links.length === MAX_LINKS) break
  }
  return links
}

/** W3C Trace Context, version 00: no id may be all zeros. */
const TRACEPARENT = /^00-(?!0{32})(?<traceId>[\da-f]{32})-(?!0{16})(?<spanId>[\da-f]{16})-(?<flags>[\da-f]{2})$/

function parseTraceparent(text: string | undefined): SpanContext | undefined {
  const { traceId, spanId, flags } = TRACEPARENT.exec(text ?? '')?.groups ?? {}
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true }
}

function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

function assertHttp(protocol: string | undefined): void {
  if (!protocol?.startsWith('grpc')) return
  throw new Error(
    'OTEL_EXPORTER_OTLP_PROTOCOL asks for gRPC, and Ringback sends traces over HTTP: leave it out, and name the port that your collector has for HTTP (4318) in OTEL_EXPORTER_OTLP_ENDPOINT',
  )
}

/** The sampler that OTEL_TRACES_SAMPLER names; the SDK no longer reads the variable itself. */
function samplerOf(
  { AlwaysOnSampler, AlwaysOffSampler, TraceIdRatioBasedSampler, ParentBasedSampler }: typeof Sdk,
  name: string | undefined,
  argument: string | undefined,
): Sdk.Sampler {
  const chosen = name || 'parentbased_always_on'
  const roots: Record<string, () => Sdk.Sampler> = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(ratioOf(argument)),
  }
  const rootName = chosen.replace(/^parentbased_/, '')
  const root = Object.hasOwn(roots, rootName) ? roots[rootName] : undefined
  if (root === undefined) {
    const names = Object.keys(roots).flatMap((known) => [known, `parentbased_${known}`])
    throw new Error(`OTEL_TRACES_SAMPLER is "${chosen}": set it to one of ${names.join(', ')}`)
  }
  return chosen.startsWith('parentbased_') ? new ParentBasedSampler({ root: root() }) : root()
}

function ratioOf(argument: string | undefined): number {
  const ratio = Number(argument || 1)
  if (ratio >= 0 && ratio <= 1) return ratio
  throw new Error(`OTEL_TRACES_SAMPLER_ARG is "${argument}": set it to the share of traces to keep, from 0 to 1`)
}

const ignore = () => {}

/** Logs what OpenTelemetry reports, not each time: while the collector is down, a batch fails every five seconds. */
function createComplain(log: Logger): (message: string) => void {
  const throttle = createThrottle(COMPLAINT_INTERVAL_MS)
  return (message) => {
    if (throttle('') !== undefined) log.warn({ error: firstLine(message) }, 'tracing.failed')
  }
}

/** The first line of a message that may be a stack, or JSON with one. */
function firstLine(message: string): string {
  return message
    .slice(0, 500)
    .replace(/^\{"stack":"/, '')
    .split(/\n|\\n/, 1)[0]!
}
