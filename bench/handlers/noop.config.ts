import { code } from '@ringback/core/handlers'
import withoutHandler from './none.config.ts'

/** The same with a handler that does nothing, for every event. */
export default { ...withoutHandler, handlers: [{ name: 'noop', run: code(() => {}) }] }
