import { hash } from 'node:crypto'

/** What the other designs need of a callback. */
export type Callback = {
  callback_id: number
  type: string
  hash: string
}

// Reading process.env costs as much as a hash, so it is read once.
const { VOXIMPLANT_SALT: salt, VOXIMPLANT_ACCOUNT_ID: accountId, VOXIMPLANT_API_KEY: apiKey } = process.env
const secret = `${salt}${accountId}${apiKey}`

/** Voximplant's recipe, by Node's fastest way to a hash. */
export function isGenuine(callback: Callback): boolean {
  return callback.hash === hash('md5', `${secret}${callback.callback_id}`)
}
