import { listenForCallbacks } from '../naive/listen.ts'

// The limit of Hono: reads, verifies, answers, and stores nothing.

listenForCallbacks({ ready: async () => {}, store: async () => {} })
