import { defineConfig, env } from '@ringback/core/config'
import { log } from '@ringback/core/handlers'
import { fonestorm } from '@ringback/core/providers/fonestorm'
import { vobiz } from '@ringback/core/providers/vobiz'
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
    // Voice callbacks; docs/providers.md has Vobiz's other schemes, and more providers.
    vobiz: vobiz({
      secrets: [env('VOBIZ_AUTH_TOKEN'), env('VOBIZ_AUTH_TOKEN_PREVIOUS')],
      urlTokens: [env('VOBIZ_URL_TOKEN'), env('VOBIZ_URL_TOKEN_PREVIOUS')],
      // Vobiz does not sign everything. What is not signed must have the token in its URL; without one it is refused.
      allowUnsigned: true,
    }),
    fonestorm: fonestorm({
      basicAuth: { username: env('FONESTORM_USERNAME'), password: env('FONESTORM_PASSWORD') },
      urlTokens: [env('FONESTORM_URL_TOKEN'), env('FONESTORM_URL_TOKEN_PREVIOUS')],
    }),
  },
  trustedProxies: [env('TRUSTED_PROXIES')],
  handlers: [
    // From Voximplant's own article on callbacks: warn when the balance reaches the threshold.
    {
      name: 'low-balance',
      on: { type: 'min_balance' },
      run: log({ level: 'warn', message: 'The balance is under the threshold' }),
    },
  ],
})
