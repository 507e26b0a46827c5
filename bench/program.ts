import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Program {
  pid: number
  /** Resolves to the program's output when it has ended well; otherwise rejects with that. */
  ended: Promise<string>
  stop: () => Promise<void>
}

export interface ProgramOptions {
  command: string
  args: string[]
  environment?: NodeJS.ProcessEnv
  /** The file for standard output and standard error. */
  logFile: string
}

/** Starts a program that ends with `resources` at the latest. */
export function startProgram(
  resources: AsyncDisposableStack,
  { command, args, environment = process.env, logFile }: ProgramOptions,
): Program {
  if (resources.disposed) throw new Error('the benchmark is ending')
  const log = openSync(logFile, 'w')
  const child = spawn(command, args, { env: environment, stdio: ['ignore', log, log] })
  closeSync(log)
  const exit = once(child, 'exit') as Promise<[number | null, string | null]>

  async function stop(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    const slow = setTimeout(() => child.kill('SIGKILL'), 5000)
    await exit
    clearTimeout(slow)
  }
  resources.defer(stop)

  async function end(): Promise<string> {
    const [code, signal] = await exit
    const output = readFileSync(logFile, 'utf8')
    if (code === 0) return output
    throw new Error(`${command} ${args.join(' ')} ended with ${code ?? signal}:\n${output.slice(-2000)}`)
  }
  const ended = end()
  ended.catch(() => {}) // nobody may be waiting for it; whoever waits still sees the rejection
  return { pid: child.pid!, ended, stop }
}

const START_DEADLINE_MS = 20_000

/** Waits until `isReady` resolves to true. Meanwhile it may reject. Rejects at once if the program ends before. */
export async function untilReady(program: Program, isReady: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS
  const early = program.ended.then((output) => {
    throw new Error(`A program ended where it should have started:\n${output}`)
  })
  for (;;) {
    if (await Promise.race([isReady().catch(() => false), early])) return
    if (performance.now() > deadline) throw new Error(`A program was not ready within ${START_DEADLINE_MS} ms`)
    await Promise.race([sleep(20), early])
  }
}
