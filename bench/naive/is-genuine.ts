import { hash } from 'node:crypto'

/** The fields of a callback that the other designs need. */
export type Callback = {
  callback_id: number
  type: string
  hash: string
}

// Reading process.env costs as much as a hash, so it is read once.
const { VOXIMPLANT_SALT: salt, VOXIMPLANT_ACCOUNT_ID: accountId, VOXIMPLANT_API_KEY: apiKey } = process.env
const secret = `${salt}${accountId}${apiKey}`

/** Checks Voximplant's hash, with Node's fastest hash function. */
export function isGenuine(callback: Callback): boolean {
  return callback.hash === hash('md5', `${secret}${callback.callback_id}`)
}
