import { code } from '@ringback/core/handlers'
import withoutHandler from './none.config.ts'

/** The configuration of none.config.ts with a handler for every event that does nothing. */
export default { ...withoutHandler, handlers: [{ name: 'noop', run: code(() => {}) }] }
