import { defineConfig, env } from '@ringback/core/config'
import { log } from '@ringback/core/handlers'
import { voximplant } from '@ringback/core/providers/voximplant'

// Sources and handlers; docs/configuration.md describes every value. A source whose variables are all unset is off.
export default defineConfig({
  sources: {
    voximplant: voximplant({
      accounts: [
        {
          accountId: env('VOXIMPLANT_ACCOUNT_ID'),
          apiKey: [env('VOXIMPLANT_API_KEY'), env('VOXIMPLANT_API_KEY_PREVIOUS')],
          salts: [env('VOXIMPLANT_SALT'), env('VOXIMPLANT_SALT_PREVIOUS')],
        },
      ],
      urlTokens: [env('VOXIMPLANT_URL_TOKEN'), env('VOXIMPLANT_URL_TOKEN_PREVIOUS')],
    }),
  },
  handlers: [
    // From Voximplant's own article on callbacks: warn when the balance reaches the threshold.
    {
      name: 'low-balance',
      on: { type: 'min_balance' },
      run: log({ level: 'warn', message: 'The balance is under the threshold' }),
    },
  ],
})
