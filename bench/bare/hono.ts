import { listenForCallbacks } from '../naive/listen.ts'

// Shows the limit of Hono: reads, verifies, answers, and stores nothing.

listenForCallbacks({ ready: async () => {}, store: async () => {} })
