import { makeWorkerUtils } from 'graphile-worker'
import { listenForCallbacks } from '../naive/listen.ts'

const utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL!, maxPoolSize: 10 })

listenForCallbacks({
  ready: async () => {},
  store: async (callbacks) => void (await utils.addJob('store', { callbacks })),
})
