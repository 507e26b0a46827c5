import { spawn } from 'node:child_process'
import type { ChildProcess, ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { demoCredentials } from '@ringback/core/providers/voximplant'
import { eventually } from './ringback.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** A process of Ringback's as a user starts it. */
export interface RunningProcess extends AsyncDisposable {
  child: ChildProcess
  /** What it has printed so far. */
  output: () => string
  /** Waits until it prints something that matches, and resolves to the match. */
  prints: (expression: RegExp) => Promise<RegExpExecArray>
  /** Resolves when it has ended, to its exit code or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>
}

/**
 * Runs `apps/<app>/src/main.ts` with only these variables and Voximplant's public credentials, in the folder `cwd`. It ends
 * with its scope.
 */
export function runApp(
  app: string,
  environment: Record<string, string>,
  args: string[] = [],
  cwd: string = root,
): RunningProcess {
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    VOXIMPLANT_ACCOUNT_ID: demoCredentials.accountId,
    VOXIMPLANT_API_KEY: demoCredentials.apiKey,
    VOXIMPLANT_SALT: demoCredentials.salt,
    OPS_PORT: '0',
    // Hundreds of processes start here, all with the same code.
    NODE_COMPILE_CACHE: join(tmpdir(), 'ringback-test-compiled'),
    SHUTDOWN_DELAY_MS: '0',
    ...environment,
  }
  const main = join(root, 'apps', app, 'src/main.ts')
  const child = spawn(process.execPath, [main, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  return watch(child, () => child.kill('SIGKILL'))
}

/** Runs `npm start` with only these variables, in a process group of its own. `ended` waits for all that it started. */
export function npmStart(environment: Record<string, string>): RunningProcess {
  const child = spawn('npm', ['start'], {
    cwd: root,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, OPS_PORT: '0', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  return watch(child, () => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // All of the group have ended.
    }
  })
}

function watch(child: ChildProcessByStdio<null, Readable, Readable>, kill: () => void): RunningProcess {
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  return {
    child,
    output: () => output,
    prints: (expression) =>
      eventually(async () => {
        const match = expression.exec(output)
        if (match === null) throw new Error(`nothing like ${expression} in:\n${output}`)
        return match
      }),
    ended,
    async [Symbol.asyncDispose]() {
      kill()
      await ended
    },
  }
}

/** Ends a process as a supervisor does, and expects that it ends well. */
export async function end({ child, ended }: RunningProcess): Promise<void> {
  child.kill('SIGTERM')
  expect(await ended).toBe(0)
}

/** Waits until an ingest, or a standalone, says on which port it takes callbacks, and resolves to that. */
export async function ingestPort({ prints }: RunningProcess): Promise<number> {
  return Number((await prints(/"port":(\d+),"sources"/))[1])
}

/** Runs a command of the CLI to its end. */
export async function runCli(
  environment: Record<string, string>,
  ...args: string[]
): Promise<{ code: number | NodeJS.Signals; output: string }> {
  await using cli = runApp('cli', environment, args)
  return { code: await cli.ended, output: cli.output() }
}

/** Makes a folder that is removed at the end of its scope. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'ringback-test-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Writes a configuration file beside the repository's own, where it finds the same packages. */
export async function configFile(content: string): Promise<{ path: string } & AsyncDisposable> {
  const path = join(root, `ringback.test-${process.pid}-${Date.now()}.config.ts`)
  await writeFile(path, content)
  return { path, [Symbol.asyncDispose]: () => rm(path) }
}

/**
 * Writes a configuration file as `configWith` makes a configuration: one source `voximplant` with the public credentials, and
 * these handlers, in whose text `code`, `forward` and `sleep` can be used.
 */
export function configFileWith(handlers: string): ReturnType<typeof configFile> {
  return configFile(`
    import { setTimeout as sleep } from 'node:timers/promises'
    import { code, forward } from '@ringback/core/handlers'
    import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
    const { accountId, apiKey, salt } = demoCredentials
    export default {
      sources: { voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [salt] }] }) },
      handlers: ${handlers},
    }`)
}
