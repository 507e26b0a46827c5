import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { signalTree } from '../support/process-tree.ts'

/** A program and how it is run. */
export interface Program {
  name: string
  command: string
  args: string[]
  env?: Record<string, string>
  uid?: number
  gid?: number
  /** The signal that asks it to end. Default: SIGTERM, at which Postgres would wait for its clients to leave. */
  stopSignal?: NodeJS.Signals
  /** The file for the output of all its runs. */
  logFile: string
}

/** A program that is started again whenever it ends, as a container engine does. */
export interface Supervised extends AsyncDisposable {
  name: string
  logFile: string
  /** Undefined between two runs. */
  pid: () => number | undefined
  /** Sends a signal to the process and all that it has started. */
  signal: (signal: NodeJS.Signals) => void
  /** Ends it at once, and waits until it has been started again. */
  kill: () => Promise<void>
  /** Asks it to end, kills it if that takes longer than a container engine waits, and resolves when it runs again. */
  restart: () => Promise<void>
}

const RESTART_DELAY_MS = 200
/** What docker-compose.yml gives a container before it is killed. */
const STOP_DEADLINE_MS = 20_000

/** Starts a program, and keeps it running until the end of the scope. Linux only: it finds children by /proc. */
export function supervise(program: Program): Supervised {
  let child: ChildProcess | undefined
  let starts = 0
  let isOver = false
  let ended: Promise<void> = Promise.resolve()

  function start(): void {
    const { command, args, env, uid, gid, logFile } = program
    const log = openSync(logFile, 'a')
    const own = spawn(command, args, {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
      stdio: ['ignore', log, log],
      // Ctrl-C reaches the harness only, which then ends everything.
      detached: true,
      ...(uid !== undefined && { uid, gid }),
    })
    closeSync(log)
    child = own
    starts += 1
    ended = new Promise((resolve) => {
      const end = () => {
        child = undefined
        setTimeout(() => void (isOver || start()), isOver ? 0 : RESTART_DELAY_MS)
        resolve()
      }
      own.once('exit', end).once('error', (error) => {
        console.error(`${program.name} cannot be started: ${error.message}`)
        end()
      })
    })
  }

  function signal(name: NodeJS.Signals): void {
    if (child?.pid !== undefined) signalTree(child.pid, name)
  }

  async function startedAfter(count: number): Promise<void> {
    while (starts === count && !isOver) await sleep(10)
  }

  async function running(): Promise<void> {
    while (child === undefined && !isOver) await sleep(10)
  }

  start()
  return {
    name: program.name,
    logFile: program.logFile,
    pid: () => child?.pid,
    signal,
    async kill() {
      await running()
      const before = starts
      signal('SIGKILL')
      await startedAfter(before)
    },
    async restart() {
      await running()
      const before = starts
      child?.kill(program.stopSignal ?? 'SIGTERM')
      const deadline = new AbortController()
      const late = sleep(STOP_DEADLINE_MS, 'late', { signal: deadline.signal }).catch(() => 'ended')
      if ((await Promise.race([ended, late])) === 'late') {
        console.error(`${program.name} did not end within ${STOP_DEADLINE_MS} ms of being asked: killed`)
        signal('SIGKILL')
      }
      deadline.abort()
      await startedAfter(before)
    },
    async [Symbol.asyncDispose]() {
      isOver = true
      signal('SIGKILL')
      await ended
    },
  }
}
