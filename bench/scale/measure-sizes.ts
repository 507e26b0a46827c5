import type { Sql } from '@ringback/core/store/connect'

/** A table with all its partitions, in bytes. */
export interface TableSize {
  name: string
  rows: number
  table: number
  indexes: number
  /** The number of partitions that are not empty; 1 for a table without partitions. */
  partitions: number
}

/** The tables that grow with the events. */
export async function measureSizes(sql: Sql): Promise<TableSize[]> {
  const sizes: TableSize[] = []
  for (const name of ['events', 'event_names', 'deliveries', 'attempts']) {
    const [size] = await sql<TableSize[]>`
      select
        ${name} as name, sum(greatest(reltuples, 0))::float8 as rows, sum(pg_table_size(oid))::float8 as table,
        sum(pg_indexes_size(oid))::float8 as indexes, count(*) filter (where reltuples > 0)::int as partitions
      from pg_class
      where relkind = 'r' and oid in (select relid from pg_partition_tree(${name}) union select ${name}::regclass)`
    sizes.push(size!)
  }
  return sizes
}
