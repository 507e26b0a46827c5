import { PgBoss } from 'pg-boss'

export const QUEUE = 'callbacks'

/** Starts a pg-boss with the queue. Only one of the processes should do its maintenance (`supervises`). */
export async function startBoss({ supervises }: { supervises: boolean }): Promise<PgBoss> {
  const boss = new PgBoss({
    connectionString: process.env.DATABASE_URL!,
    max: 10,
    supervise: supervises,
    schedule: false,
  })
  boss.on('error', (error) => console.error(error.message))
  await boss.start()
  await boss.createQueue(QUEUE)
  return boss
}
