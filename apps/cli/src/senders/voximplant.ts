import { signCallbackId } from '@ringback/core/providers/voximplant'
import type { VoximplantCredentials } from '@ringback/core/providers/voximplant'
import payloads from './voximplant-payloads.json' with { type: 'json' }

// Plays Voximplant: its callbacks as its API client describes them, with invented values, signed as it signs.

/** Every type that Voximplant's API clients name. */
export const voximplantTypes = Object.keys(payloads)

/** The body of one request that carries callbacks with these ids; those in `forged` get a hash that proves nothing. */
export function voximplantBody(
  credentials: VoximplantCredentials,
  { type, ids, forged }: { type: string; ids: string[]; forged: ReadonlySet<string> },
): string {
  const items = ids.map((id) =>
    callback(forged.has(id) ? { ...credentials, salt: `not ${credentials.salt}` } : credentials, type, id),
  )
  return `{"callbacks":[${items.join(',')}]}`
}

/** Text, not an object: Voximplant's ids are numbers, some of them beyond what a JavaScript number holds. */
function callback(credentials: VoximplantCredentials, type: string, id: string): string {
  const fields = {
    type,
    account_id: Number(credentials.accountId),
    hash: signCallbackId(credentials, id),
    account_name: 'demo-account',
    account_email: 'owner@example.test',
    language_code: 'en',
    account_first_name: 'Dana',
    account_last_name: 'Demo',
    balance: 4.99,
    currency: 'USD',
    [type]: new Map(Object.entries<unknown>(payloads)).get(type) ?? {},
  }
  return `{"callback_id":${id},${JSON.stringify(fields).slice(1)}`
}
