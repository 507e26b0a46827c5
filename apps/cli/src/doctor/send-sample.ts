import { randomUUID } from 'node:crypto'
import { providers } from '@ringback/core/providers/all'
import type { GenuineCallback, OutgoingRequest, SchemeProfile, Source } from '@ringback/core/providers/provider'
import { fillSample } from '@ringback/core/providers/sample'
import { received } from '../send/probe-signing.ts'
import { unsignedRequest } from '../send/sign-requests.ts'
import type { Report } from './examination.ts'
import { isProbeAnswer, networkAdvice, statusAdvice, TIMEOUT_MS } from './probe-url.ts'

// Sends one event as the provider would send it.

/** The `User-Agent` by which the sample is found in the database, even if nothing else of it arrived. */
export const USER_AGENT = 'ringback-doctor/'

/** What was sent, and how it was answered. */
export interface SentSample {
  request: OutgoingRequest
  /** Undefined if there was no answer. */
  answer: { status: number; isRingbacks: boolean } | undefined
  /** What the source would store of it; undefined if it would refuse it. */
  callback: GenuineCallback | undefined
  /** Whether it is signed as the provider signs, which nobody else can do if the source has a public key. */
  isSigned: boolean
}

/** Sends the first sample of the source's scheme to `url`. Resolves to undefined if there is none, or none can be made. */
export async function sendSample(
  url: string,
  { source, secret, report }: { source: Source; secret: string | undefined; report: Report },
): Promise<SentSample | undefined> {
  const profile: SchemeProfile | undefined = providers.find(({ name }) => name === source.provider)?.schemes[
    source.scheme
  ]
  const at = new Date()
  const request = profile && sampleOf(profile, source, { url, at, secret, report })
  if (profile === undefined || request === undefined) return undefined
  const { callback, isSigned } = readBack(source, request, at)
  if (!isSigned) {
    report(
      'note',
      'Only the provider can sign for this source, so the sample has a wrong signature: what counts is that it arrives unchanged (--secret takes the private key of a pair of your own)',
    )
  }
  const name = isSigned ? 'A genuine sample' : 'The sample'
  const startedAt = performance.now()
  try {
    const response = await fetch(request.url, {
      method: request.method,
      headers: request.headers,
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(request.method !== 'GET' && { body: new Uint8Array(request.body) }),
    })
    const body = await response.text()
    const ms = Math.round(performance.now() - startedAt)
    const { status } = response
    const isRingbacks = status === 200 ? body === source.answer.body : isRingbacksError(body)
    reportAnswer({ name, status, ms, isSigned, isRingbacks, body, timeoutMs: profile.delivery.timeoutMs }, report)
    return { request, answer: { status, isRingbacks }, callback, isSigned }
  } catch (error) {
    report('problem', `${name} was not answered: ${networkAdvice(error as Error)}`)
    return { request, answer: undefined, callback, isSigned }
  }
}

function sampleOf(
  { samples }: SchemeProfile,
  source: Source,
  { url, at, secret, report }: { url: string; at: Date; secret: string | undefined; report: Report },
): OutgoingRequest | undefined {
  const [sample] = Object.values(samples)
  if (sample === undefined) {
    report('problem', `There is no sample of ${source.provider}, scheme ${source.scheme}, to send`)
    return undefined
  }
  const request = unsignedRequest([fillSample(sample, at)], url, source)
  const unsigned = { ...request, headers: { ...request.headers, 'user-agent': `${USER_AGENT}${randomUUID()}` } }
  try {
    return source.sign(unsigned, { at, secret })
  } catch (error) {
    if (secret === undefined) return source.sign(unsigned, { at, forged: true })
    report('problem', `Nothing can be signed with this --secret: ${(error as Error).message}`)
    return undefined
  }
}

/** The callback that the source itself reads from the sample. */
function readBack(
  source: Source,
  request: OutgoingRequest,
  receivedAt: Date,
): Pick<SentSample, 'callback' | 'isSigned'> {
  const read = received(request, receivedAt)
  const reading = source.read(read, { trust: true })
  const callback = reading.kind === 'read' ? reading.callbacks.find(({ kind }) => kind === 'genuine') : undefined
  const proofs = source.explain(read)
  const isSigned = proofs.length === 0 || proofs.some(({ matches, expected }) => matches || expected !== undefined)
  return { callback: callback as GenuineCallback | undefined, isSigned }
}

function isRingbacksError(body: string): boolean {
  return /^\{"error":"(?:not accepted|not readable|method not|body too|try again|unknown source|not found)/.test(body)
}

interface Answered {
  name: string
  status: number
  ms: number
  isSigned: boolean
  isRingbacks: boolean
  body: string
  timeoutMs: number
}

function reportAnswer(answered: Answered, report: Report): void {
  const { name, status, ms, isSigned, isRingbacks, body, timeoutMs } = answered
  const text = `${name} was answered ${status} in ${ms} ms`
  if (ms > timeoutMs) report('problem', `${text}, and this provider waits only ${timeoutMs} ms`)
  else if (status === 200 && isRingbacks) report('ok', text)
  else if (status === 200) report('problem', `${text}, but ${otherAnswer(body)}`)
  else if (status === 401 && isRingbacks) report(isSigned ? 'problem' : 'ok', `${text}: Ringback refused it`)
  else if (status === 400 && isRingbacks) report('problem', `${text}: Ringback could not read it`)
  else report('problem', `${text}: ${statusAdvice({ status, body })}`)
}

/** Whose a 200 is that does not acknowledge the sample. */
function otherAnswer(body: string): string {
  return isProbeAnswer(body)
    ? 'as a GET of a control panel: something before Ringback turns the POST into a GET, or drops the query'
    : 'not by Ringback: something before it answers by itself, and passes nothing on'
}
