import { ALERT_KINDS } from '@ringback/core/alerts'
import { defineConfig, env } from '@ringback/core/config'
import { voximplant } from '@ringback/core/providers/voximplant'

/** The configuration that the benchmark's callbacks need, without a handler. */
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
})
