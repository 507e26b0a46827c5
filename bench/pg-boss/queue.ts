import { PgBoss } from 'pg-boss'

export const QUEUE = 'callbacks'

/** A started pg-boss with the queue. Whether it keeps house is for one of the processes to do. */
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
