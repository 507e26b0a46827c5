import { listenForCallbacks } from '../naive/listen.ts'
import { QUEUE, startBoss } from './queue.ts'

const boss = await startBoss({ supervises: false })

listenForCallbacks({
  ready: async () => {},
  store: async (callbacks) => void (await boss.send(QUEUE, { callbacks })),
})
