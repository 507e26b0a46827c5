import { resolveConfig } from '@ringback/core/config'
import { twilio } from '@ringback/core/providers/twilio'
import type { Sql } from '@ringback/core/store/connect'
import { expect, test } from 'vitest'
import type { Quarantined } from './quarantined-request.ts'
import { release } from './release.ts'

const noDatabase = undefined as unknown as Sql

/** A quarantined form with this signature. */
function refused(signature: string): Quarantined {
  return {
    id: '019b0000-0000-7000-8000-000000000000',
    source: 'source',
    reason: 'signature_mismatch',
    receivedAt: new Date('2026-01-01T00:00:00Z'),
    method: 'POST',
    url: '/callbacks/source',
    headers: { 'x-twilio-signature': signature },
    body: Buffer.from('MessageSid=SM1&MessageStatus=delivered'),
    remoteAddress: null,
    scope: 'request',
    releasedAt: null,
  } as unknown as Quarantined
}

function configOf(shadow: boolean) {
  return resolveConfig(
    { sources: { source: twilio({ secrets: 'today', shadow }) } },
    { PUBLIC_BASE_URL: 'https://hooks.example.test' },
  )
}

function dryRun(row: Quarantined, { shadow, trust }: { shadow: boolean; trust: boolean }) {
  return release(noDatabase, row, configOf(shadow), { trust, dryRun: true })
}

test('what does not verify is not let in because the source is in shadow mode now', async () => {
  const forged = refused(Buffer.alloc(20).toString('base64'))
  for (const shadow of [false, true]) {
    expect(await dryRun(forged, { shadow, trust: false })).toEqual({ kind: 'refused', reason: 'signature_mismatch' })
    expect(await dryRun(forged, { shadow, trust: true })).toMatchObject({ kind: 'released', as: 'trusted' })
  }
})

test('what verifies by today’s secrets is let in, in shadow mode too', async () => {
  const source = configOf(false).sources.get('source')!
  const { headers } = source.sign(
    {
      method: 'POST',
      url: 'https://hooks.example.test/callbacks/source',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: refused('').body,
    },
    { at: new Date() },
  )
  for (const shadow of [false, true]) {
    expect(await dryRun(refused(headers['x-twilio-signature']!), { shadow, trust: false })).toMatchObject({
      kind: 'released',
      as: 'verified',
    })
  }
})
