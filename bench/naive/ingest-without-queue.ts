import { listenForCallbacks } from './listen.ts'
import { sql, storeOneByOne } from './store-one-by-one.ts'

// No queue at all: each callback is inserted before its answer.

listenForCallbacks({ ready: () => sql`select 1`, store: storeOneByOne })
