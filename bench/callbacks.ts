import { open } from 'node:fs/promises'
import { signCallbackId } from '@ringback/core/providers/voximplant'

/** Not the demo credentials, with which ingest would listen on loopback only. */
const credentials = {
  accountId: '4711001',
  apiKey: '0f8fad5b-d9cb-469f-a165-70867728950e',
  salt: 'salt-of-the-benchmark',
}

/** The variables that give these credentials to the programs that are measured. */
export const credentialVariables = {
  VOXIMPLANT_ACCOUNT_ID: credentials.accountId,
  VOXIMPLANT_API_KEY: credentials.apiKey,
  VOXIMPLANT_SALT: credentials.salt,
}

/** The text of a message of ordinary length. */
export const TEXT =
  'Hello, this is a message of ordinary length about an appointment: please call back before noon tomorrow, or answer ' +
  'with YES to keep it and NO to cancel it. Thank you, and have a good day.'

/** The body of a genuine request with callback `number`: about 500 bytes, the same for every number below a billion. */
export function callbackBody(number: number): string {
  return requestBody(number, 1)
}

/** The body of a genuine request with `count` callbacks, from callback `first` on. */
function requestBody(first: number, count: number): string {
  return JSON.stringify({ callbacks: Array.from({ length: count }, (_, index) => callback(first + index)) })
}

function callback(number: number) {
  const callbackId = 1_000_000_000 + number
  return {
    callback_id: callbackId,
    account_id: Number(credentials.accountId),
    hash: signCallbackId(credentials, String(callbackId)),
    type: 'sms_inbound',
    sms_inbound: {
      sms_inbound: {
        source_number: String(15_550_000_000 + (number % 10_000)),
        destination_number: '15559876543',
        sms_body: TEXT,
      },
    },
  }
}

/** Writes `count` request bodies with `callbacks` callbacks each, one body a line. No callback is in two of them. */
export async function writeBodies(path: string, count: number, callbacks = 1): Promise<void> {
  await using file = await open(path, 'w')
  const CHUNK = 10_000
  for (let from = 0; from < count; from += CHUNK) {
    const size = Math.min(CHUNK, count - from)
    const lines = Array.from({ length: size }, (_, index) => `${requestBody((from + index) * callbacks, callbacks)}\n`)
    await file.write(lines.join(''))
  }
}
