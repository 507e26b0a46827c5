import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { charts } from './charts.ts'
import { describeConditions } from './conditions.ts'
import { runBench } from './run-bench.ts'
import { measureAll } from './measure-all.ts'
import { parseOptions } from './options.ts'
import { report } from './report.ts'
import { assertRequirements } from './requirements.ts'
import { startServers } from './servers.ts'

// Measures Ringback against the designs that one might choose instead, on the same servers in the same minutes.
// The page goes to standard output, progress to standard error.

const DOCS = join(import.meta.dirname, '../docs')

await runBench(async (resources) => {
  const options = parseOptions(process.argv.slice(2))
  assertRequirements()
  console.error('starting Redis and Postgres')
  const servers = await startServers(resources)
  const conditions = await describeConditions(servers)
  const results = { conditions, options, ...(await measureAll(resources, servers, options)) }

  const page = report(results)
  console.log(page)
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(results, undefined, 2)}\n`)
  if (!options.write) return
  await mkdir(join(DOCS, 'charts'), { recursive: true })
  for (const { file, svg } of charts(results)) await writeFile(join(DOCS, 'charts', file), svg)
  await writeFile(join(DOCS, 'performance.md'), page)
})
