import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { serve } from '@hono/node-server'
import type { QueuedCounts, StoreJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import { createProducer, unsafeQueueSettings } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import type { Tracing } from '@ringback/core/tracing'
import { createAllowance, defaultAllowance } from './allowance.ts'
import type { AllowanceLimits } from './allowance.ts'
import { createApp } from './app.ts'
import { createCountRequests } from './count-requests.ts'
import { createCounts } from './counts.ts'
import { createEnqueuer } from './enqueue.ts'
import { createIngestMetrics } from './metrics.ts'
import { createBodyReader } from './read-body.ts'

export interface IngestOptions {
  config: Pick<Config, 'sources' | 'sourcesOff' | 'origin' | 'credentialDigest'>
  queue: QueueServer
  /** Where its metrics go; one of its own where it is left out. */
  registry?: Registry
  /** Where it tells of each request, if anybody wants traces. */
  tracing?: Tracing | undefined
  log: Logger
  hostname: string
  /** 0 takes any free port. */
  port: number
  rootSource?: string | undefined
  maxBodyBytes?: number
  allowance?: AllowanceLimits
  /** How often counts of requests go to the worker. */
  countsIntervalMs?: number
}

export interface Ingest {
  port: number
  /** Whether callbacks can be made durable just now. */
  ready: () => Promise<boolean>
  /** Refuses new connections, answers what is in hand, and hands over what is counted. */
  close: () => Promise<void>
}

const MAX_BODY_BYTES = 1024 * 1024
/** Of bodies that are still coming in, all together: a container of 512 MB bears that. */
const MAX_READING_BYTES = 96 * 1024 * 1024
/** Vobiz waits 3 s, others 2 s: the answer leaves well before, whatever is down. */
const DEADLINE_MS = 1000
const ADD_TIMEOUT_MS = 400
const COUNTS_INTERVAL_MS = 10_000

/** Listens for callbacks. Starts and answers also while the queue is away; nothing is then accepted. */
export async function createIngest(options: IngestOptions): Promise<Ingest> {
  const { config, queue, log } = options
  if (options.rootSource !== undefined && !config.sources.has(options.rootSource)) {
    throw new Error(
      `ROOT_SOURCE names "${options.rootSource}", which is no source that is on; those are: ${[...config.sources.keys()].join(', ')}`,
    )
  }
  const metrics = createIngestMetrics(options.registry ?? createRegistry())
  const producer = createProducer<StoreJob>(queue, 'store', { timeoutMs: ADD_TIMEOUT_MS, log })
  const enqueuer = createEnqueuer({
    producer,
    log,
    deadlineMs: DEADLINE_MS,
    addTimeoutMs: ADD_TIMEOUT_MS,
    onGroup: metrics.onGroup,
  })
  const requestCounts = createCounts<QueuedCounts>({
    kind: 'counted',
    intervalMs: options.countsIntervalMs ?? COUNTS_INTERVAL_MS,
    add: producer.add.bind(producer),
    log,
  })
  const countRequest = createCountRequests(requestCounts, Date.now)
  const ready = () =>
    enqueuer.probe().then(
      () => true,
      () => false,
    )
  const app = createApp({
    sources: config.sources,
    enqueuer,
    mayQuarantine: createAllowance(options.allowance ?? defaultAllowance, Date.now),
    readBody: createBodyReader({ maxBytes: options.maxBodyBytes ?? MAX_BODY_BYTES, maxTotalBytes: MAX_READING_BYTES }),
    rootSource: options.rootSource,
    origin: config.origin,
    credentialDigest: config.credentialDigest,
    now: () => new Date(),
    ready,
    onAnswered(request) {
      countRequest(request)
      metrics.onAnswered(request)
    },
    onRefused: metrics.onRefused,
    tracing: options.tracing,
    log,
  })
  const { server, port } = await listen(app.fetch, options)
  for (const [source, { isSignatureOff, shadow }] of config.sources) {
    if (isSignatureOff) log.warn({ source }, 'source.unsigned')
    if (shadow) log.warn({ source }, 'source.shadow')
  }
  for (const source of config.sourcesOff) log.warn({ source }, 'source.off')
  for (const problem of await unsafeQueueSettings(queue)) log.warn({ problem }, 'queue.unsafe')
  log.info({ port, sources: [...config.sources.keys()] }, 'ingest.listening')
  return {
    port,
    ready,
    async close() {
      await closeServer(server)
      await requestCounts.close()
      await enqueuer.close()
      log.info('ingest.closed')
    },
  }
}

/** Demo credentials are public, so with them only this machine may send: another `hostname` gives way to loopback. */
export function safeHostname(config: Pick<Config, 'sources'>, hostname: string, log: Logger): string {
  const demo = [...config.sources].filter(([, source]) => source.usesDemoCredentials).map(([name]) => name)
  if (demo.length === 0) return hostname
  log.warn({ sources: demo, hostname: '127.0.0.1' }, 'credentials.demo')
  return '127.0.0.1'
}

function listen(fetch: Parameters<typeof serve>[0]['fetch'], { hostname, port }: IngestOptions) {
  return new Promise<{ server: Server; port: number }>((resolve, reject) => {
    const server = serve(
      {
        fetch,
        createServer,
        hostname,
        port,
        serverOptions: {
          headersTimeout: 10_000,
          requestTimeout: 15_000,
          // Longer than a proxy keeps its idle connections, so that it is never the proxy that finds one closed.
          keepAliveTimeout: 75_000,
          maxHeaderSize: 16 * 1024,
        },
      },
      (info) => resolve({ server, port: info.port }),
    ) as Server
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE' ? new Error(`Port ${port} is taken; set PORT to another`, { cause: error }) : error,
      )
    })
  })
}

/** Clients that keep their connection are told to leave with their next answer, and cut off after 5 s. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.prependListener('request', (_request, response) => response.setHeader('Connection', 'close'))
    const timer = setTimeout(() => server.closeAllConnections(), 5000)
    server.close(() => {
      clearTimeout(timer)
      resolve()
    })
    server.closeIdleConnections()
  })
}
