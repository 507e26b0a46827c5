import { join } from 'node:path'
import { startProgram } from './program.ts'

export interface Load {
  url: string
  /** A file of bodies, one a line. */
  bodies: string
  /** How many bodies at its beginning have been sent before. */
  skip: number
  seconds: number
  connections: number
  logFile: string
}

export interface LoadResult {
  /** Requests sent: those answered, and at most one on each connection for whose answer wrk did not wait. */
  sent: number
  answered: number
  seconds: number
  p50Ms: number
  p99Ms: number
  p999Ms: number
}

/** Sends distinct bodies as fast as they are answered. Rejects if any answer was an error. */
export async function sendLoad(resources: AsyncDisposableStack, load: Load): Promise<LoadResult> {
  const wrk = startProgram(resources, {
    command: 'wrk',
    args: [
      // One thread is far from busy. More threads would only take CPU from what is measured.
      '--threads=1',
      `--connections=${load.connections}`,
      `--duration=${load.seconds}s`,
      '--timeout=10s',
      `--script=${join(import.meta.dirname, 'load.lua')}`,
      load.url,
      '--',
      load.bodies,
      String(load.skip),
    ],
    logFile: load.logFile,
  })
  const output = await wrk.ended
  const line = output.split('\n').findLast((candidate) => candidate.startsWith('{'))
  if (line === undefined) throw new Error(`wrk reported nothing:\n${output}`)
  const result = JSON.parse(line) as LoadResult & { failed: number; ranOut: number }
  if (result.failed > 0) throw new Error(`${result.failed} requests were not answered with 200:\n${output}`)
  if (result.ranOut > 0) throw new Error('wrk has sent every body there is: the machine is faster than was thought')
  return result
}
