/** The keys of our advisory locks in Postgres: any numbers that nothing else in the database locks. */
export const advisoryLocks = {
  migrations: 7_274_255,
  alerts: 7_274_256,
  retention: 7_274_257,
  queueTable: 7_274_258,
}
