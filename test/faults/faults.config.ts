import { ALERT_KINDS } from '@ringback/core/alerts'
import { defineConfig, env } from '@ringback/core/config'
import { forward } from '@ringback/core/forward'
import { voximplant } from '@ringback/core/providers/voximplant'

// The configuration of ingest and worker under faults: one source, and one handler that calls the harness.

export default defineConfig({
  // An alert would be an event that nobody sent.
  alerts: { disabled: [...ALERT_KINDS] },
  sources: {
    voximplant: voximplant({
      accounts: [
        {
          accountId: env('VOXIMPLANT_ACCOUNT_ID'),
          apiKey: [env('VOXIMPLANT_API_KEY')],
          salts: [env('VOXIMPLANT_SALT')],
        },
      ],
    }),
  },
  handlers: [
    {
      name: 'receiver',
      on: { type: 'min_balance' },
      run: forward({ url: env('RECEIVER_URL'), timeoutMs: 5000, allowAddresses: ['127.0.0.1'] }),
      // Nothing is given up while a fault lasts, and what has failed is soon tried again.
      retry: { maxAttempts: 1000, firstDelayMs: 500, maxDelayMs: 2000 },
    },
  ],
})
