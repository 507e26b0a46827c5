import { open } from 'node:fs/promises'
import { signCallbackId } from '@ringback/core/providers/voximplant'

/** Not the demo's, with which ingest would listen on loopback only. */
export const credentials = {
  accountId: '4711001',
  apiKey: '0f8fad5b-d9cb-469f-a165-70867728950e',
  salt: 'salt-of-the-benchmark',
}

const TEXT =
  'Hello, this is a message of ordinary length about an appointment: please call back before noon tomorrow, or answer ' +
  'with YES to keep it and NO to cancel it. Thank you, and have a good day.'

/** A genuine request about callback `number`: about 500 bytes, and as long for every number below a thousand million. */
export function callbackBody(number: number): string {
  const callbackId = 1_000_000_000 + number
  return JSON.stringify({
    callbacks: [
      {
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
      },
    ],
  })
}

/** Writes the bodies of callbacks 0 to `count`, one a line. */
export async function writeBodies(path: string, count: number): Promise<void> {
  await using file = await open(path, 'w')
  for (let from = 0; from < count; from += 10_000) {
    const size = Math.min(10_000, count - from)
    await file.write(Array.from({ length: size }, (_, index) => `${callbackBody(from + index)}\n`).join(''))
  }
}
