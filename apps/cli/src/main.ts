#!/usr/bin/env node
import { asLines, endWhenOutputIsLost } from './output.ts'
import { createProgram } from './program.ts'

endWhenOutputIsLost()
try {
  await createProgram().parseAsync()
} catch (error) {
  const cause = error instanceof Error && error.cause instanceof Error ? `\n  because: ${error.cause.message}` : ''
  console.error(asLines(`${error instanceof Error ? error.message : String(error)}${cause}`))
  process.exitCode = 1
}
