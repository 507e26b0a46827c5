import { describe, expect, test } from 'vitest'
import { alertsIn, look } from './support/alerts.ts'
import { freshDatabase, minutesAgo } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

describe('the alert of a quiet source', () => {
  /** Had 10 requests a minute in the half hour up to this time, so many days ago; none for 20 minutes now. */
  async function quietAfter(database: Database, days: number[], lastMinutesAgo = 20): Promise<void> {
    for (const day of days) {
      await database.sql`
        insert into source_minutes
        select
          date_trunc('minute', now()) - ${day} * interval '1 day' - minute * interval '1 minute',
          'vobiz', 10, 0, 0, 0, 0, 0, 0, 0, 0, '{}'
        from generate_series(0, 30) as minute`
    }
    await database.sql`
      insert into source_states (source, last_accepted_at)
      values ('vobiz', now() - ${lastMinutesAgo} * interval '1 minute')`
  }

  test.each([
    ['is raised for one that is busy at this time every day', [1, 2, 3, 4, 5, 6, 7, 8], ['source_quiet:vobiz open']],
    ['is not raised for one that is as quiet as a week ago', [1, 2, 3, 4, 5, 6, 8], []],
    ['is not raised for one that is seldom busy', [7, 8], []],
    ['is raised for one that is known for two days', [1, 2], ['source_quiet:vobiz open']],
    ['is not raised for one that was busy on one day of two', [2], []],
    ['is not raised for one that is busy later in the day', [0.95, 1.95], []],
  ])('%s', async (_which, days, expected) => {
    await using database = await freshDatabase()
    await quietAfter(database, days)
    await look(database)
    expect(await alertsIn(database)).toEqual(expected)
  })

  test.each([
    [10.1, []],
    [9.9, ['source_quiet:vobiz open']],
    [0.1, ['source_quiet:vobiz open']],
  ])(
    'goes by busyPerMinute: where %d are busy, and it had 10 requests a minute, there is %j',
    async (busyPerMinute, expected) => {
      await using database = await freshDatabase()
      await quietAfter(database, [1, 2])
      await look(database, { alerts: { busyPerMinute } })
      expect(await alertsIn(database)).toEqual(expected)
    },
  )

  test('is raised for one that is known for some hours, if it was busy in the last three', async () => {
    await using database = await freshDatabase()
    await quietAfter(database, [])
    for (const [hours, expected] of [
      [2, []],
      [3, ['source_quiet:vobiz open']],
    ] as const) {
      await database.sql`
        insert into source_minutes
        select
          now() - interval '21 minutes' - ${hours === 2 ? 0 : 2} * interval '1 hour' - minute * interval '1 minute',
          'vobiz', 2, 0, 0, 0, 0, 0, 0, 0, 0, '{}'
        from generate_series(0, ${hours === 2 ? 119 : 59}) as minute`
      await look(database, { alerts: { busyPerMinute: 2.5 } })
      expect(await alertsIn(database)).toEqual([])
      await look(database)
      expect(await alertsIn(database)).toEqual(expected)
    }
  })

  interface AnIngest {
    name: string
    host?: string
    startedMinutesAgo?: number
    canaryMinutesAgo: number
    heardForMinutes?: number
    hasLeft?: boolean
  }

  // The last request of the source that has been counted was 20 minutes ago.
  test.each<[string, AnIngest[], string[]]>([
    ['is raised as long as canaries come', [{ name: 'a:1', canaryMinutesAgo: 0 }], ['source_quiet:vobiz open']],
    [
      'is not raised where no canary has come for as long, so that no counts can have',
      [{ name: 'a:1', canaryMinutesAgo: 6 }],
      [],
    ],
    [
      'is not raised just when canaries come again, for counts follow',
      [{ name: 'a:1', canaryMinutesAgo: 0, heardForMinutes: 0.5 }],
      [],
    ],
    [
      'is not raised where one of several ingests is not heard of, for the requests may come to that one',
      [
        { name: 'a:1', canaryMinutesAgo: 0 },
        { name: 'b:1', host: 'b', canaryMinutesAgo: 19 },
      ],
      [],
    ],
    [
      'is raised where one of several has been silent for more than an hour, and is taken for gone',
      [
        { name: 'a:1', canaryMinutesAgo: 0 },
        { name: 'b:1', host: 'b', startedMinutesAgo: 300, canaryMinutesAgo: 70 },
      ],
      ['source_quiet:vobiz open'],
    ],
    [
      'is raised where the last ingests have ended in good order, whatever became of one two days ago',
      [
        { name: 'a:1', canaryMinutesAgo: 17, hasLeft: true },
        { name: 'b:1', host: 'b', startedMinutesAgo: 3000, canaryMinutesAgo: 2880 },
      ],
      ['source_quiet:vobiz open'],
    ],
    [
      'is raised where every ingest has ended in good order, or was replaced',
      [
        { name: 'a:1', canaryMinutesAgo: 19 },
        { name: 'a:2', startedMinutesAgo: 18, canaryMinutesAgo: 17, hasLeft: true },
      ],
      ['source_quiet:vobiz open'],
    ],
  ])('%s', async (_which, ingests, expected) => {
    await using database = await freshDatabase()
    await quietAfter(database, [1, 2])
    for (const ingest of ingests) {
      const { name, host = 'a', startedMinutesAgo = 60, canaryMinutesAgo, heardForMinutes = 60, hasLeft } = ingest
      const sentAt = minutesAgo(canaryMinutesAgo)
      await database.sql`
        insert into ingests (name, host, started_at, canary_sent_at, canary_stored_at, heard_since, left_at)
        values (
          ${name}, ${host}, ${minutesAgo(startedMinutesAgo)}, ${sentAt}, ${sentAt}, ${minutesAgo(heardForMinutes)},
          ${hasLeft === true ? sentAt : null}
        )`
    }
    await look(database, { alerts: { disabled: ['canary_late'] } })
    expect(await alertsIn(database)).toEqual(expected)
  })

  test('once raised lasts also while no counts can come', async () => {
    await using database = await freshDatabase()
    await quietAfter(database, [1, 2])
    await look(database)
    await database.sql`
      insert into ingests (name, host, started_at, canary_sent_at) values ('a:1', 'a', now(), ${minutesAgo(19)})`
    await look(database, { alerts: { disabled: ['canary_late'] } })
    expect(await alertsIn(database)).toEqual(['source_quiet:vobiz open'])
  })

  test('once raised lasts until the next request, whatever the time of day', async () => {
    await using database = await freshDatabase()
    await quietAfter(database, [1, 2])
    await look(database)
    await database.sql`truncate source_minutes`
    await look(database)
    expect(await alertsIn(database)).toEqual(['source_quiet:vobiz open'])
    await database.sql`update source_states set last_accepted_at = now()`
    await look(database)
    expect(await alertsIn(database)).toEqual(['source_quiet:vobiz resolved'])
  })
})
