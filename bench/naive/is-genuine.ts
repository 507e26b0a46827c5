import { createHash } from 'node:crypto'

/** What the naive designs need of a callback. */
export type Callback = {
  callback_id: number
  type: string
  hash: string
}

/** Voximplant's recipe, as its sample code has it. */
export function isGenuine(callback: Callback): boolean {
  const { VOXIMPLANT_SALT: salt, VOXIMPLANT_ACCOUNT_ID: accountId, VOXIMPLANT_API_KEY: apiKey } = process.env
  const expected = createHash('md5').update(`${salt}${accountId}${apiKey}${callback.callback_id}`).digest('hex')
  return callback.hash === expected
}
