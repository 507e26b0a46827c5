import {
  bareHono,
  bareHttp,
  expressHandler,
  graphileWorker,
  naive,
  pgBoss,
  ringback,
  ringbackEverysec,
  ringbackNoHandler,
  ringbackNoopHandler,
  ringbackWithoutRedis,
  withoutQueue,
} from './designs.ts'
import type { Design } from './designs.ts'
import type { LoadShape } from './measure-load.ts'
import type { Options, Section } from './options.ts'

/** Designs that are measured in turns under the same load. */
export interface Scenario {
  section: Section
  /** Its key in the results. */
  name: string
  title: string
  designs: readonly Design[]
  shape: LoadShape
  /** Whether each fsync takes 2 ms more. */
  slowDisk?: boolean
}

const SLOW_DISK_DESIGNS = [ringback, naive, withoutQueue]

/** The scenarios of the load that wrk makes, which sends as fast as it is answered. */
export function scenarios({ connections, profile }: Options): Scenario[] {
  const usual: LoadShape = { connections, callbacks: 1, processes: 1, withoutWorkers: false }
  const rivals = [ringback, naive, withoutQueue]
  return [
    {
      section: 'load',
      name: 'load',
      title: `One callback a request, ${connections} connections`,
      designs: [
        ringback,
        ringbackEverysec,
        ringbackWithoutRedis,
        naive,
        withoutQueue,
        pgBoss,
        graphileWorker,
        bareHttp,
        bareHono,
        expressHandler,
      ],
      shape: usual,
    },
    {
      section: 'shapes',
      name: 'ten',
      title: `Ten callbacks a request, ${connections} connections`,
      designs:
        profile === 'full'
          ? [ringback, ringbackWithoutRedis, naive, withoutQueue, pgBoss, graphileWorker, bareHttp, bareHono]
          : [ringback, ringbackWithoutRedis, naive, withoutQueue, bareHono],
      shape: { ...usual, callbacks: 10 },
    },
    ...[1, 256].map((count): Scenario => ({
      section: 'shapes',
      name: `connections-${count}`,
      title: `One callback a request, ${count} ${count === 1 ? 'connection' : 'connections'}`,
      designs: profile === 'full' ? [...rivals, ringbackWithoutRedis, bareHono] : rivals,
      shape: { ...usual, connections: count },
    })),
    {
      section: 'processes',
      name: 'two-processes',
      title: 'Two ingest and two worker processes on the same cores',
      designs: rivals,
      shape: { ...usual, processes: 2 },
    },
    {
      section: 'handler',
      name: 'handler',
      title: 'A handler that does nothing, for every event',
      designs: [ringbackNoHandler, ringbackNoopHandler],
      shape: usual,
    },
    {
      section: 'acks',
      name: 'acks',
      title: 'Answers alone: no worker is running',
      designs:
        profile === 'full' ? [ringback, ringbackWithoutRedis, naive, bareHttp, bareHono] : [ringback, naive, bareHono],
      shape: { ...usual, withoutWorkers: true },
    },
    {
      section: 'slow-disk',
      name: 'slow-disk',
      title: 'A disk whose every fsync takes 2 ms longer',
      designs: SLOW_DISK_DESIGNS,
      shape: usual,
      slowDisk: true,
    },
    {
      section: 'slow-disk',
      name: 'slow-disk-256',
      title: 'The same slow disk, 256 connections',
      designs: profile === 'full' ? SLOW_DISK_DESIGNS : [ringback, naive],
      shape: { ...usual, connections: 256 },
      slowDisk: true,
    },
  ]
}
