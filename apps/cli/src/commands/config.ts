import { ConfigError } from '@ringback/core/environment'
import type { Command } from 'commander'
import { checkConfig } from '../check-config.ts'
import { print, wantsJson } from '../output.ts'

/** `ringback config check` */
export function addConfigCommand(program: Command): void {
  const config = program.command('config').description('the configuration')
  config
    .command('check')
    .description('load the configuration as ingest and worker would, and say what is on')
    .action(async (_options: unknown, command: Command) => {
      const checked = await checkConfig().catch((error: unknown) => {
        if (!(error instanceof ConfigError) || !wantsJson(command)) throw error
        return error
      })
      if (checked instanceof ConfigError) {
        console.log(JSON.stringify({ problems: checked.problems }))
        process.exitCode = 1
        return
      }
      const { sources, sourcesOff, handlers } = checked
      const value = {
        sources: [...sources].map(
          ([name, { provider, scheme, urlTokens, usesDemoCredentials, isSignatureOff, shadow }]) => ({
            name,
            provider,
            scheme,
            urlToken: urlTokens.length > 0,
            usesDemoCredentials,
            isSignatureOff,
            shadow,
          }),
        ),
        sourcesOff,
        handlers: handlers.map(({ name, on, run, retry }) => ({ name, on, kind: run.kind, retry })),
      }
      const lines = [
        ...value.sources.map(({ name, provider, scheme, urlToken, usesDemoCredentials, isSignatureOff, shadow }) =>
          [
            `source ${name} (${provider}, ${scheme}): on`,
            ...(urlToken ? ['with a URL token'] : []),
            ...(isSignatureOff ? ['signatures are not verified, for no secret is set'] : []),
            ...(shadow ? ['in shadow mode'] : []),
            ...(usesDemoCredentials ? ['with public demo credentials'] : []),
          ].join(', '),
        ),
        ...sourcesOff.map((name) => `source ${name}: off, none of its variables is set`),
        ...value.handlers.map(({ name, kind, on }) => `handler ${name} (${kind}): on ${JSON.stringify(on)}`),
      ]
      print(command, value, lines.join('\n'))
    })
}
