import { join } from 'node:path'
import { cells, matches } from './cells.ts'
import type { Cell } from './cells.ts'
import { parseOptions } from './options.ts'
import type { Options } from './options.ts'
import { line, table, writeBetweenMarks } from './report.ts'
import { hasFailed, runCell } from './run-cell.ts'
import type { CellResult } from './run-cell.ts'
import { runCommand } from './run-command.ts'
import { prepareCluster } from './servers.ts'

// Proves that nothing acknowledged is lost: kills, freezes, fills and cuts everything under load, and then counts.
// docs/faults.md says what the numbers mean.

const LENGTH_MS = [9000, 11_000] as const

await runCommand(async (stopping) => {
  const options = parseOptions(process.argv.slice(2))
  const chosen = chooseCells(options.only)
  if (options.list) {
    for (const { name, problem } of chosen) console.log(problem === undefined ? name : `${name} (left out: ${problem})`)
    return true
  }
  const results = await runAll(chosen, options, stopping)
  if (options.write) await writeBetweenMarks(join(import.meta.dirname, '../../docs/faults.md'), table(results))
  else if (!options.json) console.log(`\n${table(results)}`)
  return results.length > 0 && !results.some(hasFailed)
})

function chooseCells(patterns: string[]): Cell[] {
  const unknown = patterns.find((pattern) => !cells.some(({ name }) => matches(name, pattern)))
  if (unknown !== undefined) throw new Error(`--only ${unknown}: no cell is called that; --list names them`)
  return cells.filter(({ name }) => patterns.length === 0 || patterns.some((pattern) => matches(name, pattern)))
}

async function runAll(chosen: Cell[], options: Options, stopping: AbortSignal): Promise<CellResult[]> {
  const { seed, rounds, seconds, rate, patience, json } = options
  console.error(`seed ${seed}: the same faults again with --seed ${seed} --seconds ${seconds} --rate ${rate}`)
  await using cluster = await prepareCluster()
  const results: CellResult[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const cell of chosen) {
      if (stopping.aborted) return results
      if (cell.problem !== undefined) {
        console.error(`left out ${cell.name}: ${cell.problem}`)
        continue
      }
      const roundSeed = `${seed}.${round}`
      const run = { cluster, seed: roundSeed, seconds, rate, lengthMs: LENGTH_MS, patienceMs: patience * 1000 }
      const result = await runCell(cell, run)
      results.push(result)
      console.log(json ? JSON.stringify({ round, seed, ...result }) : line(result))
    }
  }
  return results
}
