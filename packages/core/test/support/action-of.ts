import { defineConfig, resolveConfig } from '../../src/config.ts'
import type { HandlerDefinition } from '../../src/config.ts'
import type { HandlerAction } from '../../src/handlers.ts'

/** What becomes of the action of a handler "notify" when a configuration with it is loaded. */
export function actionOf(run: HandlerDefinition['run'], environment: Record<string, string> = {}): HandlerAction {
  return resolveConfig(defineConfig({ sources: {}, handlers: [{ name: 'notify', run }] }), environment).handlers[0]!.run
}
