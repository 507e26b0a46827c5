import { barChart } from './bar-chart.ts'
import type { Bar } from './bar-chart.ts'
import { whole } from './markdown.ts'
import { HALF_LOAD } from './measure-all.ts'
import type { Measurements, Runs } from './measure-all.ts'
import { totalUs } from './measure-load.ts'
import { median } from './statistics.ts'

export interface Chart {
  /** The file's name in docs/charts. */
  file: string
  title: string
  svg: string
}

/** The charts of what was measured. */
export function charts({ loads, latencies }: Measurements): Chart[] {
  return [
    chart('events-per-second.svg', 'Events a second, end to end', loads.load, (run) => run.eventsPerSecond, whole),
    chart(
      'cpu-per-event.svg',
      'CPU of an event, all processes, microseconds',
      loads.load,
      ({ cpuUs }) => totalUs(cpuUs),
      whole,
    ),
    chart(
      'ten-callbacks.svg',
      'Events a second, ten callbacks a request',
      loads.ten,
      (run) => run.eventsPerSecond,
      whole,
    ),
    chart(
      'slow-disk.svg',
      'Events a second, each fsync 2 ms longer',
      loads['slow-disk'],
      (run) => run.eventsPerSecond,
      whole,
    ),
    chart(
      'latency-half-load.svg',
      'Time until the answer at half load, p99, ms',
      latencies,
      (run) => run[HALF_LOAD]!.p99Ms,
      (value) => value.toFixed(1),
    ),
  ].filter((made) => made !== undefined)
}

const NOTE = 'Bar: median of the rounds. Line: least to greatest.'

function chart<Run>(
  file: string,
  title: string,
  runs: Runs<Run> | undefined,
  of: (run: Run) => number,
  format: (value: number) => string,
): Chart | undefined {
  const bars = Object.entries(runs ?? {}).map(([label, own]): Bar => {
    const values = own.map(of)
    const [least, greatest] = [Math.min(...values), Math.max(...values)]
    return { label, value: median(values), least, greatest, isOwn: label.startsWith('Ringback') }
  })
  if (bars.length === 0) return undefined
  const sorted = bars.toSorted((a, b) => b.value - a.value)
  return { file, title, svg: barChart(title, NOTE, sorted, format) }
}
