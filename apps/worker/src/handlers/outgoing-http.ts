import { lookup } from 'node:dns'
import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { LookupFunction } from 'node:net'
import type { ClientCertificate } from '@ringback/core/forward'
import { HandlerError } from '@ringback/core/handlers'
import type { AttemptReport } from '@ringback/core/handlers'
import { mayConnect, refusalOf } from '@ringback/core/outgoing-addresses'
import type { AddressList } from '@ringback/core/providers/access'
import { Agent, buildConnector } from 'undici'
import { MAX_ATTEMPTS } from '../turns.ts'
import { keptOf } from './mask-secrets.ts'

// HTTP to a destination that may be slow, hostile, or moved elsewhere by its DNS. What it can cost us is bounded.

export interface OutgoingRequest {
  method: string
  url: URL
  /** Path and query as they are to be written, if not as `url` has them: a URL spells some characters anew. */
  target?: string | undefined
  /** By lower-case names. */
  headers: Record<string, string>
  /** Undefined: none. */
  body: Buffer | undefined
  /** Lower-case names of the headers that are dropped when a redirect leads to another origin. */
  credentialHeaders: ReadonlySet<string>
}

export interface OutgoingHttpOptions {
  /** Addresses that may be connected to although they are not public. */
  allowAddresses: AddressList
  maxRedirects: number
  clientCertificate: ClientCertificate | undefined
  /** The origins that the client certificate is shown to. */
  certificateOrigins: ReadonlySet<string>
  /** The longest that a request may take. */
  timeoutMs: number
}

/** A success. */
export interface Answer {
  statusCode: number
  /** The beginning of the body, without secrets. */
  response: string
}

export interface SendOptions {
  signal: AbortSignal
  /** What the error says when `signal` fires first. */
  timeoutMessage: string
  /** What nothing that is kept of an answer may hold. */
  secrets: readonly string[]
}

export interface OutgoingHttp {
  /**
   * Sends a request and takes 2xx for success. Throws a HandlerError that says what came instead. Errors hold nothing of
   * the URL, which may be a secret.
   */
  send: (request: OutgoingRequest, options: SendOptions) => Promise<Answer>
  close: () => Promise<void>
}

const MAX_CONNECT_MS = 10_000
const MAX_RESPONSE_BYTES = 64 * 1024

/** Makes the client of one destination. It keeps connections alive, also to where the destination redirects. */
export function createOutgoingHttp(options: OutgoingHttpOptions): OutgoingHttp {
  const { certificateOrigins, clientCertificate, maxRedirects } = options
  const agent = createAgent(options, { ca: clientCertificate?.ca })
  const agentWithCertificate = clientCertificate && createAgent(options, clientCertificate)
  const agentOf = ({ origin }: URL) => (certificateOrigins.has(origin) ? agentWithCertificate : undefined) ?? agent

  async function send(first: OutgoingRequest, sendOptions: SendOptions): Promise<Answer> {
    const { signal, timeoutMessage } = sendOptions
    let request = first
    for (let redirects = 0; ; redirects++) {
      const response = await exchange(agentOf(request.url), request, sendOptions).catch((error: unknown) => {
        throw signal.aborted ? new HandlerError(timeoutMessage, { retryable: true, ...reportOf(error) }) : error
      })
      const { statusCode } = response
      if (statusCode >= 200 && statusCode < 300) return { statusCode, response: response.text }
      if (response.location === undefined) throw failureOf(response)
      if (redirects >= maxRedirects) throw tooManyRedirects(response, maxRedirects)
      request = redirected(request, response)
    }
  }

  return {
    send,
    close: async () => void (await Promise.all([agent.close(), agentWithCertificate?.close()])),
  }
}

function createAgent(
  { allowAddresses, timeoutMs }: OutgoingHttpOptions,
  { ca, ...identity }: Partial<ClientCertificate>,
): Agent {
  const connect = buildConnector({
    timeout: Math.min(timeoutMs, MAX_CONNECT_MS),
    allowH2: false, // a cut response then costs its own connection, and nobody else's
    lookup: guardedLookup(allowAddresses),
    ...identity,
    ...(ca !== undefined && { ca }),
  })
  return new Agent({
    pipelining: 1,
    // As many as there are attempts, so that none waits in line while its time runs.
    connections: MAX_ATTEMPTS,
    // Later than the signal, which is exact.
    headersTimeout: timeoutMs + 1000,
    bodyTimeout: timeoutMs + 1000,
    connect(target, callback) {
      // There is no lookup of an address, so it is checked here.
      const address = target.hostname.replace(/^\[(.*)\]$/, '$1')
      if (isIP(address) === 0 || mayConnect(address, allowAddresses)) connect(target, callback)
      else callback(refused(address), null)
    },
  })
}

/** Resolves names to the addresses that may be connected to. The connection is made to one of these, and to no other. */
function guardedLookup(allowAddresses: AddressList): LookupFunction {
  // One lookup at a time for each name: they wait for DNS in four threads, which all destinations share.
  const waiting = new Map<string, LookupCallback[]>()
  return (hostname, options, callback) => {
    const answer: LookupCallback = (error, found) => {
      if (error) return callback(error, [])
      const allowed = found.filter(({ address }) => mayConnect(address, allowAddresses))
      const first = allowed[0]
      if (first === undefined) callback(refused(found[0]?.address ?? 'none'), [])
      else if (options.all) callback(null, allowed)
      else callback(null, first.address, first.family)
    }
    const others = waiting.get(hostname)
    if (others !== undefined) return void others.push(answer)
    const answers = [answer]
    waiting.set(hostname, answers)
    lookup(hostname, { all: true }, (error, found) => {
      waiting.delete(hostname)
      for (const each of answers) each(error, found)
    })
  }
}

type LookupCallback = (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void

/** The error of a refused address. It is retryable: a name may get another address, and an attempt costs next to nothing. */
function refused(address: string): HandlerError {
  return new HandlerError(refusalOf(address), { retryable: true })
}

interface Response {
  statusCode: number
  /** The beginning of the body, without secrets. */
  text: string
  retryAfter: string | undefined
  /** Only of a redirect. */
  location: string | undefined
}

async function exchange(agent: Agent, request: OutgoingRequest, { signal, secrets }: SendOptions): Promise<Response> {
  const { method, url, target, headers, body } = request
  const answer = await agent
    .request({
      origin: url.origin,
      path: target ?? url.pathname + url.search,
      method,
      headers,
      body: body ?? null,
      signal,
    })
    .catch((error: unknown) => {
      throw connectionError('no answer', error)
    })
  const { statusCode } = answer
  const header = (name: string) => [answer.headers[name]].flat()[0]
  const isRedirect = statusCode >= 300 && statusCode < 400
  const text = await readStart(answer.body).catch((error: unknown) => {
    throw connectionError(`answered ${statusCode} and broke off`, error, statusCode)
  })
  return {
    statusCode,
    text: keptOf(text, secrets),
    retryAfter: header('retry-after'),
    location: isRedirect ? header('location') : undefined,
  }
}

/** Reads the body up to a limit; where there is more, the connection is dropped. */
async function readStart(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > MAX_RESPONSE_BYTES) break // this destroys the body
  }
  return Buffer.concat(chunks).toString('utf8')
}

function connectionError(what: string, error: unknown, statusCode?: number): HandlerError {
  if (error instanceof HandlerError) return error
  // Only the code: messages name the host.
  const { code, name } = error as NodeJS.ErrnoException
  return new HandlerError(`${what} (${code ?? name})`, { retryable: true, statusCode, cause: error })
}

function reportOf(error: unknown): AttemptReport {
  return error instanceof HandlerError ? { statusCode: error.statusCode, response: error.response } : {}
}

const ASKS_TO_WAIT = new Set([429, 503])

function failureOf({ statusCode, text, retryAfter }: Response): HandlerError {
  return new HandlerError(`answered ${statusCode}`, {
    retryable: true,
    statusCode,
    response: text,
    isGone: statusCode === 410,
    ...(ASKS_TO_WAIT.has(statusCode) && { retryAfterMs: readRetryAfter(retryAfter, Date.now()) }),
  })
}

/**
 * The wait that a `Retry-After` asks for, from `now` (ms since 1970): seconds, in which some servers write a fraction, or a
 * date. Undefined if it asks for none.
 */
export function readRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined
  if (/^\s*\d+(?:\.\d+)?\s*$/.test(value)) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - now)
}

function tooManyRedirects({ statusCode, text }: Response, maxRedirects: number): HandlerError {
  const message =
    maxRedirects === 0
      ? `answered ${statusCode}, a redirect; maxRedirects is 0, so none is followed`
      : `answered ${statusCode}, one redirect more than the ${maxRedirects} of maxRedirects`
  return new HandlerError(message, { retryable: true, statusCode, response: text })
}

/**
 * The request that follows a redirect: the same one to another URL, because a callback that became a GET would be lost; but
 * a GET after 303, which asks for just that. Credentials do not go to another origin. Throws a HandlerError if the redirect
 * is not followed, as from https to http.
 */
function redirected(request: OutgoingRequest, { statusCode, text, location }: Response): OutgoingRequest {
  const url = URL.parse(location ?? '', request.url)
  const failure = (why: string) =>
    new HandlerError(`answered ${statusCode}, a redirect ${why}`, { retryable: true, statusCode, response: text })
  if (url === null || !/^https?:$/.test(url.protocol)) throw failure('to no http or https URL')
  if (request.url.protocol === 'https:' && url.protocol === 'http:') throw failure('from https to http, not followed')
  // undici sends neither, and a password that somebody else chose is not ours to send.
  url.username = ''
  url.password = ''
  const isOtherOrigin = url.origin !== request.url.origin
  const dropped = (name: string) =>
    (isOtherOrigin && request.credentialHeaders.has(name)) || (statusCode === 303 && name === 'content-type')
  const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !dropped(name)))
  return statusCode === 303
    ? { ...request, method: 'GET', url, target: undefined, headers, body: undefined }
    : { ...request, url, target: undefined, headers }
}
