import { queryOf } from '@ringback/core/providers/message'
import type { OutgoingRequest } from '@ringback/core/providers/provider'
import { fillSample } from '@ringback/core/providers/sample'
import type { FilledSample } from '@ringback/core/providers/sample'
import type { PlannedCallback, PlannedRequest } from './plan-requests.ts'
import { canForge, signsNonce } from './probe-signing.ts'
import type { RequestToSend } from './send-requests.ts'
import { signingTime, signRequest } from './sign-requests.ts'
import type { SignOptions } from './sign-requests.ts'

// Makes requests from a plan.

export interface MakeOptions extends SignOptions {
  wrongContentType: boolean
}

/** Returns functions that make their requests just before they are sent: a million requests would not fit into memory. */
export function makeRequests(plan: PlannedRequest[], options: MakeOptions): (() => RequestToSend)[] {
  const { sample, now } = options
  const contentOf = createContents(plan, ({ kind }) => fillSample(sample, signingTime(kind === 'stale', now)))
  const forgesByUrl =
    plan.some(({ callbacks }) => callbacks.some(({ kind }) => kind === 'forged')) && !canForge(options)
  // Requests that are signed only once, by their first content: a provider that repeats a nonce repeats the whole request.
  const signedOnce = signsNonce(options) ? new WeakMap<FilledSample, OutgoingRequest>() : undefined
  return plan.map(({ callbacks, dropped }) => () => {
    const filled = callbacks.map(contentOf)
    const isForged = callbacks.map(({ kind }) => kind === 'forged')
    const isStale = callbacks[0]!.kind === 'stale'
    const url = forgesByUrl && isForged.every(Boolean) ? withWrongToken(options) : options.url
    return {
      // Otherwise it is signed anew for every attempt, as by a provider whose signature holds a time.
      make() {
        const request = signedOnce?.get(filled[0]!) ?? signRequest(filled, isForged, isStale, { ...options, url })
        signedOnce?.set(filled[0]!, request)
        return toOutgoing(request, { ...options, url })
      },
      dropped,
      isProviders: !isStale && !isForged.every(Boolean),
    }
  })
}

function withWrongToken({ source, url }: MakeOptions): string {
  const wrong = new URL(url)
  const parts = wrong.pathname.split('/')
  if (!source.urlTokens.includes(decodeURIComponent(parts.at(-1)!))) {
    throw new Error(
      'Nothing but the address lets requests in at this source, so none can be forged: leave out --forged',
    )
  }
  wrong.pathname = [...parts.slice(0, -1), 'forged'].join('/')
  return wrong.href
}

/** Makes the function that fills samples. One is kept only as long as a duplicate of it is still to come. */
function createContents(
  plan: PlannedRequest[],
  fill: (callback: PlannedCallback) => FilledSample,
): (callback: PlannedCallback) => FilledSample {
  const uses = new Map<number, number>()
  for (const { callbacks } of plan) {
    for (const { kind, content } of callbacks) if (kind === 'duplicate') uses.set(content, (uses.get(content) ?? 1) + 1)
  }
  const kept = new Map<number, FilledSample>()
  return (callback) => {
    const { content } = callback
    const left = (uses.get(content) ?? 1) - 1
    const filled = kept.get(content) ?? fill(callback)
    if (left === 0) kept.delete(content)
    else kept.set(content, filled)
    uses.set(content, left)
    return filled
  }
}

/** The signed request, now addressed to `url`. What signing has added to the query stays. */
function toOutgoing(
  { method, url: signedUrl, headers, body }: OutgoingRequest,
  { url, wrongContentType }: Pick<MakeOptions, 'url' | 'wrongContentType'>,
): ReturnType<RequestToSend['make']> {
  const query = queryOf(signedUrl)
  const contentType = headers['content-type']
  const other = contentType?.includes('json') ? 'application/x-www-form-urlencoded' : 'application/json'
  return {
    method,
    path: `${new URL(url).pathname}${query === '' ? '' : `?${query}`}`,
    headers: wrongContentType && contentType !== undefined ? { ...headers, 'content-type': other } : headers,
    body,
  }
}
