import { createSecretKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { createRequire } from 'node:module'
import { describe, expect, test } from 'vitest'
import { requestOf, signAndRead, sourceOf } from '../../test/support/sign-and-read.ts'
import messagebirdVectors from '../../test/vectors/messagebird.json' with { type: 'json' }
import { hashClaim } from './jwt.ts'
import { messagebird } from './messagebird.ts'
import { fillSample } from './sample.ts'

// The library has no types for this part of it.
const library = createRequire(import.meta.url)('messagebird/lib/webhook-signature-jwt.js') as {
  verify: (url: string, payload: Buffer, jwt: string, key: KeyObject) => Promise<true>
}

const { signingKey, vectors } = messagebirdVectors
const source = sourceOf(messagebird({ secrets: signingKey }))!
const receivedAt = new Date(messagebirdVectors.receivedAt * 1000)
const { samples } = messagebird.provider.schemes.signed

describe('requests and what is made of them', () => {
  test.each(vectors)('$name', ({ expect: expected, headers, ...request }) => {
    const reading = source.read(requestOf({ ...request, headers: headers, receivedAt }))
    if ('refused' in expected) expect(reading).toMatchObject({ kind: 'refused', reason: expected.refused })
    else {
      expect(reading).toMatchObject({ callbacks: [{ kind: 'genuine', ...expected, occurredAt: receivedAt }] })
    }
  })
})

describe.each(Object.entries(samples))('the sample %s', (type, sample) => {
  test('is accepted, forged it is not', () => {
    expect(signAndRead(source, sample)).toMatchObject({ callbacks: [{ kind: 'genuine', type }] })
    expect(signAndRead(source, sample, { forged: true })).toMatchObject({ reason: 'signature_mismatch' })
  })

  test('is accepted by the vendor’s library too, and by neither with one byte changed', async () => {
    const at = new Date()
    const { method, query, headers, body } = fillSample(sample, at)
    const url = `https://hooks.example.test/callbacks/source?${new URLSearchParams(query).toString()}`
    const signed = source.sign({ method, url, headers, body }, { at })
    const verify = (calledUrl: string, payload: Buffer) =>
      library.verify(
        calledUrl,
        payload,
        signed.headers['messagebird-signature-jwt']!,
        createSecretKey(Buffer.from(signingKey)),
      )
    await verify(url, body)
    expect(source.read(requestOf({ ...signed, receivedAt: at }))).toMatchObject({ kind: 'read' })

    const changed = Buffer.concat([body, Buffer.from(' ')])
    await expect(verify(url, changed)).rejects.toThrow('payload')
    expect(source.read(requestOf({ ...signed, body: changed, receivedAt: at }))).toMatchObject({
      reason: 'body_hash_mismatch',
    })
    await expect(verify(`${url}&`, body)).rejects.toThrow('url_hash')
    expect(source.read(requestOf({ ...signed, url: `${url}&`, receivedAt: at }))).toMatchObject({
      reason: 'url_hash_mismatch',
    })
  })
})

test('of a genuine token for another URL or body, operators are told both hashes, and that the secret is right', () => {
  const { headers, body, url } = vectors.find(({ name }) => name === 'body by POST')!
  const called = { method: 'POST', headers: headers as Record<string, string>, receivedAt }
  const explain = (request: { url: string; body: string }) => source.explain(requestOf({ ...called, ...request }))
  const [genuine] = explain({ url, body })
  expect(genuine).toMatchObject({ matches: true, expected: genuine!.presented })
  const [ofUrl, ofBody] = genuine!.hashes!
  expect(genuine!.hashes).toEqual([
    { name: 'url_hash', presented: hashClaim(url), expected: hashClaim(url) },
    { name: 'payload_hash', presented: hashClaim(body), expected: hashClaim(body) },
  ])
  expect(explain({ url: `${url}/`, body })).toEqual([
    { ...genuine, hashes: [{ ...ofUrl, expected: hashClaim(`${url}/`) }, ofBody] },
  ])
  expect(explain({ url, body: `${body} ` })).toEqual([
    { ...genuine, hashes: [ofUrl, { ...ofBody, expected: hashClaim(`${body} `) }] },
  ])
})

test('a token of another secret is told from one for another URL or time', () => {
  const other = sourceOf(messagebird({ secrets: 'another' }))!
  for (const name of ['url_hash of another URL', 'payload_hash of other bytes', 'exp 5 s ago', 'iss Bird']) {
    const { headers, expect: _expected, ...request } = vectors.find((vector) => vector.name === name)!
    const received = requestOf({ ...request, headers: headers, receivedAt })
    expect(other.read(received)).toMatchObject({ reason: 'signature_mismatch' })
    expect(other.explain(received)).toMatchObject([{ matches: false, signedText: expect.any(Buffer) }])
  }
})

test('no token leads to the secret in what operators are told', () => {
  const [vector] = vectors
  const request = requestOf({ ...vector, headers: vector!.headers, receivedAt })
  expect(JSON.stringify(source.explain(request).map(({ signedText }) => signedText.toString()))).not.toContain(
    signingKey,
  )
})
