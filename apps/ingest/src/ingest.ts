import type { QueuedCounts, QueuedDrop, StoreJob } from '@ringback/core/callback'
import { rootSourceProblem } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { createRegistry } from '@ringback/core/metrics'
import type { Registry } from '@ringback/core/metrics'
import { createProducer, unsafeQueueSettings } from '@ringback/core/queue'
import type { QueueServer } from '@ringback/core/queue'
import { closeWithin } from '@ringback/core/service'
import type { Spool } from '@ringback/core/spool'
import { openOwnSpool, unsafeSpool } from '@ringback/core/spools'
import type { Tracing } from '@ringback/core/tracing'
import { createAllowance, defaultAllowance } from './allowance.ts'
import type { AllowanceLimits } from './allowance.ts'
import { createApp } from './app.ts'
import { startCanary } from './canary.ts'
import { createCountDropped } from './count-dropped.ts'
import { createCountRequests } from './count-requests.ts'
import type { AnsweredRequest } from './count-requests.ts'
import { createCounts } from './counts.ts'
import { drainSpools } from './drain-spools.ts'
import { createEnqueuer } from './enqueue.ts'
import { listen } from './http-server.ts'
import { createIngestMetrics, createQueueMetrics, createSpoolMetrics } from './metrics.ts'
import { createBodyReader } from './read-body.ts'
import { createTurns } from './take-turns.ts'
import type { TurnLimits } from './take-turns.ts'

export interface IngestOptions {
  config: Pick<Config, 'sources' | 'sourcesOff' | 'origin' | 'credentialDigest'>
  queue: QueueServer
  /** Where callbacks go while the queue is down: a folder that ingests may share. Without it they are answered 503. */
  spool?: SpoolPlace | undefined
  /** The registry for its metrics. Default: one of its own. */
  registry?: Registry
  /** Makes a span for each request. Undefined: there are no traces. */
  tracing?: Tracing | undefined
  log: Logger
  hostname: string
  /** 0 takes any free port. */
  port: number
  rootSource?: string | undefined
  /** How long `close` keeps taking requests, so that load balancers notice that it is not ready. Default: 0. */
  shutdownDelayMs?: number | undefined
  maxBodyBytes?: number
  allowance?: AllowanceLimits
  /** How often counts of requests go to the worker. */
  countsIntervalMs?: number
  /** How often a canary is sent along the path of callbacks. */
  canaryIntervalMs?: number
  /** How often the settings of the queue's server are looked at. */
  settingsIntervalMs?: number
}

export interface SpoolPlace {
  dir: string
  /** The size limit of this ingest's own spool. */
  maxBytes: number
}

export interface Ingest {
  port: number
  /** Whether callbacks can be made durable at the moment, and `close` has not been called. */
  ready: () => Promise<boolean>
  /**
   * Makes `ready` false, takes requests for another `shutdownDelayMs`, then refuses new connections, answers the requests
   * in hand, and sends the last counts. Takes at most `shutdownDelayMs` plus 7 s, whatever is down.
   */
  close: () => Promise<void>
}

const MAX_BODY_BYTES = 1024 * 1024
/** How much memory unfinished bodies may take together; small ones, up to twice that. A container of 512 MB can bear it. */
const MAX_READING_BYTES = 96 * 1024 * 1024
/** Two of the largest bodies: one is on its way to the queue while the next is verified. */
const turnLimits: TurnLimits = { maxBytes: 2 * MAX_BODY_BYTES, maxWaitingBytes: 32 * 1024 * 1024, maxWaitMs: 400 }
/** How long callbacks may take to become durable. Vobiz waits 3 s for an answer, others 2 s. */
const DEADLINE_MS = 1000
/** Time limit of an add to the queue. The spool needs the rest of the deadline. */
const ADD_TIMEOUT_MS = 400
/** The same where there is no spool, so that only the answer is left to do. */
const ADD_TIMEOUT_WITHOUT_SPOOL_MS = 900
/** Time limit of an add from the spool, for which nobody waits. */
const DRAIN_TIMEOUT_MS = 5000
const COUNTS_INTERVAL_MS = 10_000
const DROPPED_INTERVAL_MS = 1000
const COUNTING_PAUSE_MS = 10
const CANARY_INTERVAL_MS = 5000
/** A server may be restarted, or replaced, with other settings. */
const SETTINGS_INTERVAL_MS = 3_600_000

/**
 * Listens for callbacks. Starts and answers even while the queue is down: callbacks then wait in the spool, if there is one.
 * Rejects if `rootSource` names no source that `/` can belong to, or if it cannot listen.
 */
export async function createIngest(options: IngestOptions): Promise<Ingest> {
  const { config, queue, log } = options
  const problem = options.rootSource === undefined ? undefined : rootSourceProblem(options.rootSource, config.sources)
  if (problem !== undefined) throw new Error(problem)
  const registry = options.registry ?? createRegistry()
  const answered = createAnswered((request) => {
    countRequest(request)
    metrics.onAnswered(request)
  })
  const metrics = createIngestMetrics(registry, config.sources.keys(), answered.countAll)
  const spool = await openSpoolIfAny(options)
  const addTimeoutMs = spool === undefined ? ADD_TIMEOUT_WITHOUT_SPOOL_MS : ADD_TIMEOUT_MS
  const producer = createProducer<StoreJob>(queue, 'store', { timeoutMs: addTimeoutMs, log })
  createQueueMetrics(registry, producer.memoryUsage)
  if (spool !== undefined) createSpoolMetrics(registry, spool.usage)
  const enqueuer = createEnqueuer({
    producer,
    spool,
    log,
    deadlineMs: DEADLINE_MS,
    addTimeoutMs,
    onGroup: (size) => setImmediate(metrics.onGroup, size),
  })
  const draining =
    spool &&
    drainSpools({
      ...options.spool!,
      own: spool,
      memoryUsage: producer.memoryUsage,
      isQueueDown: enqueuer.isQueueDown,
      openProducer: () => createProducer<StoreJob>(queue, 'store', { timeoutMs: DRAIN_TIMEOUT_MS, log }),
      log,
    })
  const { add } = producer
  const countsIntervalMs = options.countsIntervalMs ?? COUNTS_INTERVAL_MS
  const counts = createCounts<QueuedCounts>({ kind: 'counted', intervalMs: countsIntervalMs, add, spool, log })
  const countRequest = createCountRequests(counts, Date.now)
  const drops = createCounts<QueuedDrop>({ kind: 'dropped', intervalMs: DROPPED_INTERVAL_MS, add, spool, log })
  let isLeaving = false
  const ready = async () =>
    !isLeaving &&
    enqueuer.probe().then(
      () => !isLeaving,
      () => false,
    )
  const app = createApp({
    sources: config.sources,
    enqueue: enqueuer.enqueue,
    countDropped: createCountDropped(drops),
    mayQuarantine: createAllowance(options.allowance ?? defaultAllowance, Date.now),
    readBody: createBodyReader({ maxBytes: options.maxBodyBytes ?? MAX_BODY_BYTES, maxTotalBytes: MAX_READING_BYTES }),
    inTurn: createTurns(turnLimits),
    rootSource: options.rootSource,
    origin: config.origin,
    credentialDigest: config.credentialDigest,
    now: () => new Date(),
    ready,
    onAnswered: answered.add,
    onRefused: metrics.onRefused,
    tracing: options.tracing,
    log,
  })
  const server = await listen(app.fetch, options)
  warnOfSources(config, log)
  // Not awaited: a server that is down must delay neither the start nor the end.
  const lookAtSettings = () => void warnOfUnsafeSettings(queue, log)
  lookAtSettings()
  const settings = setInterval(lookAtSettings, options.settingsIntervalMs ?? SETTINGS_INTERVAL_MS).unref()
  const canary = startCanary({
    enqueuer,
    intervalMs: options.canaryIntervalMs ?? CANARY_INTERVAL_MS,
    spool: spool?.usage,
    detectLoss: producer.detectLoss,
    onSent: metrics.onCanary,
    log,
  })
  log.info({ port: server.port, sources: [...config.sources.keys()] }, 'ingest.listening')
  return {
    port: server.port,
    ready,
    async close() {
      isLeaving = true
      await server.close(options.shutdownDelayMs ?? 0)
      answered.countAll()
      clearInterval(settings)
      await Promise.all([
        closeWithin({ ms: 1000, part: 'drain', log }, () => draining?.close()),
        closeWithin({ ms: 1000, part: 'counts', log }, () => Promise.all([counts.close(), drops.close()])),
        closeWithin({ ms: 1000, part: 'canary', log }, canary.close),
      ])
      await closeWithin({ ms: 2000, part: 'queue', log }, enqueuer.close)
      await closeWithin({ ms: 1000, part: 'spool', log }, () => spool?.close())
      log.info('ingest.closed')
    },
  }
}

/** Collects requests that have their answer, and counts them together a little later: no answer waits, and it costs less. */
function createAnswered(count: (request: AnsweredRequest) => void) {
  const answered: AnsweredRequest[] = []
  const countAll = () => {
    for (const request of answered.splice(0)) count(request)
  }
  const add = (request: AnsweredRequest) => {
    if (answered.push(request) === 1) setTimeout(countAll, COUNTING_PAUSE_MS)
  }
  return { add, countAll }
}

function warnOfSources({ sources, sourcesOff }: IngestOptions['config'], log: Logger): void {
  for (const [source, { isSignatureOff, shadow }] of sources) {
    if (isSignatureOff) log.warn({ source }, 'source.unsigned')
    if (shadow) log.warn({ source }, 'source.shadow')
  }
  for (const source of sourcesOff) log.warn({ source }, 'source.off')
}

async function warnOfUnsafeSettings(queue: QueueServer, log: Logger): Promise<void> {
  for (const problem of await unsafeQueueSettings(queue)) log.warn({ problem }, 'queue.unsafe')
}

/** Opens the spool. Where it cannot be written, ingest works as long as the queue does, and logs that. */
async function openSpoolIfAny({ spool: place, log }: IngestOptions): Promise<Spool | undefined> {
  if (place === undefined) {
    log.warn(
      { problem: 'while the queue is down callbacks are answered 503: set SPOOL_DIR to a folder on a disk' },
      'spool.off',
    )
    return undefined
  }
  try {
    const spool = await openOwnSpool(place.dir, { maxBytes: place.maxBytes, log })
    const problem = await unsafeSpool(spool.folder)
    if (problem !== undefined) log.warn({ problem }, 'spool.unsafe')
    log.info({ folder: spool.folder, ...spool.usage() }, 'spool.opened')
    return spool
  } catch (error) {
    const reason = (error as Error).message
    log.error(
      {
        dir: place.dir,
        problem: `SPOOL_DIR cannot be used (${reason}), so while the queue is down callbacks are answered 503`,
      },
      'spool.off',
    )
    return undefined
  }
}

/** `hostname`, or loopback where a source uses the demo credentials: they are public, so only this machine may send. */
export function safeHostname(config: Pick<Config, 'sources'>, hostname: string, log: Logger): string {
  const demo = [...config.sources].filter(([, source]) => source.usesDemoCredentials).map(([name]) => name)
  if (demo.length === 0) return hostname
  log.warn({ sources: demo, hostname: '127.0.0.1' }, 'credentials.demo')
  return '127.0.0.1'
}
